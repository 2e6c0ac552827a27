"""Files that go with their last area, whoever is killed in whatever order."""

import contextlib
import errno
import itertools
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from anonfs.client import connect, meminfo
from anonfs.inspection import Counts
from anonfs.units import PAGE_SIZE
from tests.posix.children import STRANGER, Child, User, as_user, eventually, hear, say
from tests.posix.memory import Mapping
from tests.support.mounts import Mounted

_PAGES = 16
_REAP = "user.anonfs.reap"


def _ask(path: Path | int, policy: str) -> None:
    os.setxattr(path, _REAP, policy.encode())


def _policy(path: Path | int) -> str:
    return os.getxattr(path, _REAP).decode()


def _make(path: Path, policy: str = "last-area") -> None:
    path.touch()
    os.truncate(path, _PAGES * PAGE_SIZE)
    _ask(path, policy)


def _areas(target: Path | int) -> int:
    return Counts.parse(os.getxattr(target, "user.anonfs.count").decode()).areas


def _used(mount: Path) -> tuple[int, int, int]:
    """Frames and slots in use, and inodes."""
    info = meminfo(mount)
    slots = info.swap_total - info.swap_free
    return info.frames_used // PAGE_SIZE, slots // PAGE_SIZE, info.inodes


def _map(path: Path) -> Mapping:
    fd = os.open(path, os.O_RDWR)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    os.close(fd)
    return mapping


def _hold(path: Path) -> None:
    """Store to a file, half of it to swap, and stay."""
    mapping = _map(path)
    mapping.write(0, b"r" * _PAGES * PAGE_SIZE)
    mapping.sync()
    os.setxattr(path, "user.anonfs.swapout", b"0-7")
    say("mapped")
    hear()


def _gone(path: Path) -> bool:
    return not path.exists()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_holders_killed_in_every_order(shared_mount: Path, order: Sequence[int]) -> None:
    path = shared_mount / "f"
    before = _used(shared_mount)
    _make(path)
    with Child(_hold, path) as one, Child(_hold, path) as two, Child(_hold, path) as three:
        holders = one, two, three
        assert [holder.said() for holder in holders] == ["mapped"] * 3
        assert _used(shared_mount) > before
        for at, which in enumerate(order):
            assert _areas(path) == 3 - at
            holders[which].kill()
            holders[which].wait()
        eventually(lambda: _gone(path), "the file is reaped")
        eventually(lambda: _used(shared_mount) == before, "frames, slots and inode are free")


def _fork_and_hold(path: Path) -> None:
    mapping = _map(path)
    with Child(hear) as child:
        say(child.pid)
        hear()
        mapping.unmap()
        say("unmapped")
        hear()


def _kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)


@pytest.mark.parametrize("first", ["parent", "child"])
def test_parent_and_child(shared_mount: Path, first: str) -> None:
    path = shared_mount / "f"
    _make(path)
    with Child(_fork_and_hold, path) as parent:
        child = parent.said()
        assert _areas(path) == 2
        if first == "child":
            _kill(child)
            eventually(lambda: _areas(path) == 1, "the child's area is closed")
            assert path.exists()
            parent.kill()
        else:
            parent.tell()
            assert parent.said() == "unmapped"
            assert _areas(path) == 1
            _kill(child)
        eventually(lambda: _gone(path), "the file is reaped")


def test_a_stopped_holder_still_holds(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)
    with Child(_hold, path) as stopped, Child(_hold, path) as other:
        assert [stopped.said(), other.said()] == ["mapped"] * 2
        stopped.kill(signal.SIGSTOP)
        other.kill()
        other.wait()
        assert _areas(path) == 1
        assert path.exists()
        stopped.kill()
        eventually(lambda: _gone(path), "the file is reaped")


def test_exec_is_the_end_of_an_area(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)

    def become() -> None:
        _hold(path)
        os.execvp("sleep", ["sleep", "60"])  # noqa: S606  no shell

    with Child(become) as child:
        assert child.said() == "mapped"
        child.tell()
        child.await_exec()
        eventually(lambda: _gone(path), "the file is reaped")


def test_all_names_go_wherever_they_are(shared_mount: Path) -> None:
    path, below = shared_mount / "f", shared_mount / "d"
    below.mkdir()
    _make(path)
    names = [shared_mount / "g", below / "f"]
    for name in names:
        name.hardlink_to(path)
    path.rename(below / "moved")
    names.append(below / "moved")
    (below / "other").touch()
    with Child(_hold, below / "moved") as child:
        assert child.said() == "mapped"
        child.kill()
        child.wait()
        eventually(lambda: all(map(_gone, names)), "all names are gone")
    assert [entry.name for entry in below.iterdir()] == ["other"]


@pytest.mark.usefixtures("as_root")
def test_who_has_it_open_keeps_it_without_a_name(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)
    before = _used(shared_mount)
    with Child(_hold, path) as child:
        assert child.said() == "mapped"
        fd = os.open(path, os.O_RDWR)
        child.kill()
        child.wait()
        eventually(lambda: _gone(path), "the file is reaped")
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 1, 0) == b"r"
    os.close(fd)
    freed = (before[0], before[1], before[2] - 1)
    eventually(lambda: _used(shared_mount) == freed, "all of it is free")


def test_a_file_made_anew_under_the_name_is_another(shared_mount: Path) -> None:
    path = shared_mount / "f"
    for _ in range(10):
        _make(path)
        mapping = _map(path)
        assert _areas(path) == 1
        mapping.unmap()
        eventually(lambda: _gone(path), "the file is reaped")
    path.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert _policy(path) == "never"
    path.unlink()


def test_areas_handed_on_faster_than_anybody_looks(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)

    def relay() -> None:
        mapping = _map(path)
        mapping.write(0, b"r")
        for _ in range(300):
            if os.fork():
                os._exit(0)
        say("the last")
        hear()
        mapping.unmap()

    with Child(relay) as first:
        while not first.has_said(0):
            with contextlib.suppress(BlockingIOError):  # they are too fast for a look to end at all
                _areas(path)
        assert first.said() == "the last"
        eventually(lambda: _areas(path) == 1, "the last but one has ended")
        assert path.exists()
        first.tell()
        assert first.wait() == 0
        eventually(lambda: _gone(path), "the file is reaped")


def test_mapped_again_while_it_is_about_to_go(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)
    for _ in range(50):
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        os.ftruncate(fd, _PAGES * PAGE_SIZE)
        _ask(fd, "last-area")
        mapping = Mapping(fd, _PAGES * PAGE_SIZE)
        assert _areas(fd) == 1
        mapping.unmap()
        assert _areas(fd) == 0
        again = Mapping(fd, _PAGES * PAGE_SIZE)
        again.write(0, b"again")
        assert again.read(0, 5) == b"again"
        assert _areas(fd) == 1
        os.close(fd)
        again.unmap()
    eventually(lambda: _gone(path), "the file is reaped")


def test_a_client_makes_a_file_that_goes_by_itself(shared_mount: Path) -> None:
    client = connect(shared_mount)
    with client.create("job", _PAGES * PAGE_SIZE, reap="last-area") as file:
        mapping = file.map()
        assert file.reap == "last-area"
    assert _areas(client.path("job")) == 1
    mapping.close()
    eventually(lambda: _gone(client.path("job")), "the file is reaped")


def test_an_area_that_came_and_went_between_two_looks(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)

    def flash() -> None:
        _map(path).write(0, b"x")

    with Child(flash) as child:
        child.wait()
    eventually(lambda: _gone(path), "the file is reaped")


def test_what_was_never_mapped_stays(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)
    path.write_bytes(b"x" * PAGE_SIZE)
    fd = os.open(path, os.O_RDWR)
    os.close(fd)
    assert _areas(path) == 0
    assert path.exists()
    path.unlink()


@pytest.mark.parametrize(
    "turn_off", [lambda path: _ask(path, "never"), lambda path: os.removexattr(path, _REAP)]
)
def test_turned_off_it_stays(shared_mount: Path, turn_off: Callable[[Path], None]) -> None:
    path = shared_mount / "f"
    _make(path)
    assert _policy(path) == "last-area"
    turn_off(path)
    assert _policy(path) == "never"
    with Child(_hold, path) as child:
        assert child.said() == "mapped"
        child.kill()
        child.wait()
        assert _areas(path) == 0
    assert path.exists()
    path.unlink()


@pytest.mark.usefixtures("as_root")
def test_a_group_that_is_gone_takes_its_segment(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.touch()
    os.truncate(path, _PAGES * PAGE_SIZE)

    def lead() -> None:
        os.setpgid(0, 0)
        _ask(path, "last-attach")
        assert _policy(path) == f"last-attach {os.getpid()}"
        mapping = _map(path)
        with Child(hear) as member:
            say(member.pid)
            mapping.unmap()
            say("unmapped")
            hear()

    with Child(_hold, path) as looker, Child(_hold, path) as other:
        assert [looker.said(), other.said()] == ["mapped"] * 2
        with Child(lead) as leader:
            member = leader.said()
            assert leader.said() == "unmapped"
            assert _areas(path) == 3
            other.kill()
            other.wait()
            assert _areas(path) == 2
            assert path.exists()
            _kill(member)
            eventually(lambda: _gone(path), "the file is reaped")
        looker.tell()
        assert looker.wait() == 0


def test_it_is_listed_once_and_refuses_nonsense(shared_mount: Path) -> None:
    path = shared_mount / "f"
    _make(path)
    assert os.listxattr(path).count(_REAP) == 1
    for value in ("", "last", "last-area 7", "last-attach x", "last-attach 0"):
        with pytest.raises(OSError, match="Invalid argument") as error:
            _ask(path, value)
        assert error.value.errno == errno.EINVAL
    with pytest.raises(PermissionError):
        _ask(shared_mount, "last-area")
    assert _policy(path) == "last-area"
    path.unlink()


@pytest.mark.usefixtures("as_root")
def test_it_is_for_root_and_the_owner(shared_mount: Path) -> None:
    shared_mount.chmod(0o777)
    path = shared_mount / "f"
    path.touch()
    path.chmod(0o666)

    def ask(here: Path) -> int:
        try:
            _ask(here / "f", "last-area")
        except OSError as error:
            return error.errno or 0
        return 0

    assert as_user(STRANGER, shared_mount, ask) == errno.EPERM
    os.chown(path, STRANGER.uid, STRANGER.gid)
    assert as_user(STRANGER, shared_mount, ask) == 0
    assert as_user(User(0, 0), shared_mount, ask) == 0
    path.unlink()


def test_a_nameless_inode_gives_back_frames_and_slots_at_once(mounted: Mounted) -> None:
    before = _used(mounted.path)
    path = mounted.path / "f"
    path.touch()
    os.truncate(path, _PAGES * PAGE_SIZE)
    with Child(_hold, path) as one, Child(_hold, path) as two:
        assert [one.said(), two.said()] == ["mapped"] * 2
        path.unlink()
        frames, slots, _ = _used(mounted.path)
        assert (frames - before[0], slots - before[1]) == (_PAGES - 8, 8)
        one.kill()
        one.wait()
        assert _used(mounted.path)[0] == frames
        two.kill()
        two.wait()
    eventually(lambda: _used(mounted.path) == before, "frames, slots and inode are free")
