"""chmod, chown and utimens as root, and the times that they leave."""

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.posix.children import NOBODY, User, as_user
from tests.posix.reference import as_on_tmpfs, compare, facts, outcome, times_changed

pytestmark = pytest.mark.usefixtures("as_root")

_SECOND = 1_000_000_000


def _times(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_atime_ns, found.st_mtime_ns


@as_on_tmpfs
def test_chmod_of_every_bit(directory: Path) -> object:
    file, inner = directory / "f", directory / "d"
    file.touch()
    inner.mkdir()
    record = []
    for mode in (0, 0o7777, 0o4755, 0o2755, 0o1777, 0o2644, 0o644):
        for path in (file, inner):
            path.chmod(mode)
            record.append(facts(path))
    return record


@as_on_tmpfs
def test_chmod_and_chown_times(directory: Path) -> object:
    file, inner = directory / "f", directory / "d"
    file.touch()
    inner.mkdir()
    (directory / "l").symlink_to("f")
    record = []
    for path in (file, inner):
        record += [
            times_changed(partial(path.chmod, 0o750), path, directory),
            times_changed(partial(os.chown, path, 7, -1), path, directory),
            times_changed(partial(os.chown, path, -1, 8), path, directory),
            times_changed(partial(os.utime, path, (5, 6)), path, directory),
            facts(path),
        ]
    link = directory / "l"
    record.append(times_changed(lambda: os.lchown(link, 9, 9), link, file))
    return [*record, facts(link, follow_symlinks=False), facts(file)]


@as_on_tmpfs
def test_ids_of_any_size(directory: Path) -> object:
    file = directory / "f"
    file.touch()
    record = []
    for uid, gid in ((0, 65535), (65536, 1 << 31), ((1 << 32) - 2, (1 << 32) - 2)):
        record += [outcome(os.chown, file, uid, gid), facts(file)]
    return record


@as_on_tmpfs
def test_times_to_the_nanosecond(directory: Path) -> object:
    file, link = directory / "f", directory / "l"
    file.touch()
    link.symlink_to("f")
    record = []
    for atime, mtime in ((0, 0), (1, 999_999_999), (17 * _SECOND + 5, 4_000_000_000 * _SECOND + 7)):
        for path in (file, directory, link):
            os.utime(path, ns=(atime, mtime), follow_symlinks=False)
            record.append(_times(path))
    return record


@pytest.mark.parametrize("seconds", [-1, -3_000_000_000, 9_300_000_000, 100_000_000_000])
def test_times_before_1970_and_after_2262(shared_mount: Path, seconds: int) -> None:
    """Either the time is stored or the nearest one that can be; nothing else changes."""
    path = shared_mount / "f"
    path.write_bytes(b"x")
    time = seconds * _SECOND + 123_456_789
    os.utime(path, ns=(time, time))
    limit = (1 << 63) - 1
    assert _times(path) == (min(max(time, -limit - 1), limit),) * 2


@as_on_tmpfs
def test_one_of_two_times(directory: Path) -> object:
    file = directory / "f"
    file.touch()
    os.utime(file, ns=(1, 2))
    for_now = as_user(NOBODY, directory, lambda here: outcome(os.utime, here / "f"))
    file.chmod(0o666)
    by_a_writer = as_user(NOBODY, directory, lambda here: outcome(os.utime, here / "f"))
    recent = file.stat().st_mtime_ns > 2
    given = as_user(NOBODY, directory, lambda here: outcome(os.utime, here / "f", (3, 4)))
    return for_now, by_a_writer, recent, given


@as_on_tmpfs
def test_suid_and_sgid_go_with_a_new_owner(directory: Path) -> object:
    record = []
    for mode in (0o4755, 0o2755, 0o6755, 0o2644, 0o6000):
        for kind in ("f", "d"):
            path = directory / f"{kind}{mode:o}"
            path.touch() if kind == "f" else path.mkdir()
            path.chmod(mode)
            os.chown(path, 5, 5)
            record.append((path.name, facts(path)))
    return record


def _apply(change: Callable[[Path], object], name: str, here: Path) -> None:
    change(here / name)


def _modes_after(change: Callable[[Path], object], directory: Path) -> object:
    """The modes of files that another user, and then root, changed."""
    record = []
    # Not 2666: without a group that may execute it the kernel leaves the bit on a FUSE mount.
    for mode in (0o4777, 0o2777, 0o6777, 0o1777):
        for user in (NOBODY, User(0, 0)):
            path = directory / f"{mode:o}-{user.uid}"
            path.write_bytes(b"some")
            path.chmod(mode)
            as_user(user, directory, partial(_apply, change, path.name))
            record.append((path.name, stat.filemode(path.stat().st_mode), path.read_bytes()))
    return record


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer than before"),
        lambda path: path.open("ab").write(b"x"),
        lambda path: path.open("r+b").write(b"x"),
        lambda path: os.truncate(path, 1),
        lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
        lambda path: os.close(os.open(path, os.O_WRONLY)),
    ],
    ids=["rewrite", "append", "overwrite", "truncate", "open and truncate", "open"],
)
def test_suid_and_sgid_go_with_a_change(
    shared_mount: Path, tmpfs: Path, change: Callable[[Path], object]
) -> None:
    compare(lambda directory: _modes_after(change, directory), shared_mount, tmpfs)
