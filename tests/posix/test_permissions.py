"""What another user may, and what the setgid and sticky bits mean."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.posix.children import NOBODY, STRANGER, User, as_user
from tests.posix.reference import as_on_tmpfs, facts, names, opened, outcome

pytestmark = pytest.mark.usefixtures("as_root")

_TEAM = 60_500
MEMBER = User(60_002, 60_002, (_TEAM,))


def _file(path: Path, mode: int, uid: int = 0, gid: int = 0) -> None:
    path.write_bytes(b"contents")
    os.chown(path, uid, gid)
    path.chmod(mode)


def _folder(path: Path, mode: int, uid: int = 0, gid: int = 0) -> None:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)


@as_on_tmpfs
def test_access_by_owner_group_and_others(directory: Path) -> object:
    for mode in (0o700, 0o070, 0o007, 0o444, 0o222, 0o000):
        _file(directory / f"{mode:o}", mode, MEMBER.uid, _TEAM)
        _folder(directory / f"d{mode:o}", mode, MEMBER.uid, _TEAM)
        _file(directory / f"d{mode:o}" / "in", 0o666)

    def tries(here: Path) -> object:
        record: dict[str, object] = {}
        for name in names(here):
            path = here / name
            record[name] = [
                opened(path, os.O_RDONLY),
                opened(path, os.O_WRONLY),
                opened(path / "in", os.O_RDONLY),
                opened(path / "new", os.O_CREAT | os.O_EXCL),
                outcome(names, path),
                [os.access(path, mode) for mode in (os.R_OK, os.W_OK, os.X_OK)],
                outcome(os.chmod, path, 0o7) if path.name == "444" else None,
                outcome(os.chown, path, 0, 0),
                outcome(os.getxattr, path, "user.none"),
                outcome(os.setxattr, path, "user.mine", b"x"),
            ]
        return record

    return [as_user(who, directory, tries) for who in (NOBODY, User(7, 7, (_TEAM,)), MEMBER)]


@as_on_tmpfs
def test_the_sticky_bit(directory: Path) -> object:
    _folder(directory / "sticky", 0o1777)
    _folder(directory / "mine", 0o1777, NOBODY.uid)
    for name in ("sticky", "mine"):
        _file(directory / name / "roots", 0o666)
        _file(directory / name / "mine", 0o666, NOBODY.uid)
        _folder(directory / name / "dir", 0o777)

    def tries(here: Path) -> object:
        record = []
        for name in ("sticky", "mine"):
            place = here / name
            record += [
                outcome(os.rename, place / "mine", place / "roots"),
                outcome(os.rename, place / "roots", place / "x"),
                outcome(os.unlink, place / "roots"),
                outcome(os.rmdir, place / "dir"),
                outcome(os.unlink, place / "mine"),
                names(place),
            ]
        return record

    return as_user(NOBODY, directory, tries)


@as_on_tmpfs
def test_setgid_directories_hand_on_their_group(directory: Path) -> object:
    _folder(directory / "team", 0o2777, 0, _TEAM)

    def makes(here: Path) -> None:
        os.umask(0)
        os.chdir(here / "team")
        me = os.getuid()
        os.close(os.open(f"file-{me}", os.O_CREAT | os.O_EXCL, 0o666))
        os.close(os.open(f"suid-{me}", os.O_CREAT | os.O_EXCL, 0o6777))
        Path(f"dir-{me}").mkdir(0o755)
        Path(f"dir-{me}/in").mkdir(0o700)
        os.mkfifo(f"fifo-{me}", 0o2777)
        Path(f"link-{me}").symlink_to("x")

    for user in (NOBODY, MEMBER, User(0, 0)):
        as_user(user, directory, makes)
    paths = sorted((directory / "team").rglob("*"))
    return {path.name: facts(path, follow_symlinks=False) for path in paths}


@as_on_tmpfs
def test_setgid_is_for_members(directory: Path) -> object:
    for gid in (_TEAM, 60_999, MEMBER.gid):
        _file(directory / f"f{gid}", 0o755, MEMBER.uid, gid)
        _folder(directory / f"d{gid}", 0o755, MEMBER.uid, gid)
    made = names(directory)

    def tries(here: Path) -> object:
        return [
            (name, mode, outcome(os.chmod, here / name, mode), facts(here / name))
            for name in made
            for mode in (0o2755, 0o6755, 0o2644)
        ]

    return as_user(MEMBER, directory, tries)


def test_a_stranger_cannot_leave_setgid_on_a_file(shared_mount: Path) -> None:
    _file(shared_mount / "f", 0o755, MEMBER.uid, 60_999)
    as_user(MEMBER, shared_mount, lambda here: (here / "f").chmod(0o6755))
    assert (shared_mount / "f").stat().st_mode & 0o7777 == 0o4755
    os.chown(shared_mount / "f", MEMBER.uid, _TEAM)
    as_user(MEMBER, shared_mount, lambda here: (here / "f").chmod(0o6755))
    assert (shared_mount / "f").stat().st_mode & 0o7777 == 0o6755


@as_on_tmpfs
def test_owners_change_the_group_to_one_of_theirs(directory: Path) -> object:
    _file(directory / "f", 0o6755, MEMBER.uid, MEMBER.gid)

    def tries(here: Path) -> object:
        calls = [(-1, _TEAM), (-1, 60_999), (MEMBER.uid, MEMBER.gid), (NOBODY.uid, -1), (0, 0)]
        return [(outcome(os.chown, here / "f", *ids), facts(here / "f")) for ids in calls]

    return as_user(MEMBER, directory, tries), as_user(STRANGER, directory, tries)


@pytest.mark.parametrize(
    "act",
    [
        lambda here: (here / "f").write_bytes(b"x"),
        lambda here: (here / "new").touch(),
        lambda here: (here / "f").unlink(),
        lambda here: (here / "f").rename(here / "g"),
        lambda here: (here / "l").symlink_to("f"),
        lambda here: os.setxattr(here / "f", "user.anonfs.swapout", b"all"),
        lambda here: os.setxattr(here / "f", "trusted.mine", b"x"),
        lambda here: os.truncate(here / "f", 0),
    ],
    ids=["write", "create", "unlink", "rename", "symlink", "swapout", "trusted", "truncate"],
)
def test_others_are_kept_out(shared_mount: Path, act: Callable[[Path], object]) -> None:
    _file(shared_mount / "f", 0o644)
    before = facts(shared_mount / "f")
    assert as_user(NOBODY, shared_mount, lambda here: outcome(act, here)) in {"EACCES", "EPERM"}
    assert facts(shared_mount / "f") == before
    assert (shared_mount / "f").read_bytes() == b"contents"
    assert names(shared_mount) == ["f"]
