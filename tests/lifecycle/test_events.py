"""The stream of events of real mounts: followed by many, by slow ones, by those who may not."""

import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.client import connect, meminfo, watch
from anonfs.events import Lost, VmEvent, parse_event_line
from anonfs.units import PAGE_SIZE
from tests.lifecycle.places import anonfs
from tests.posix.children import (
    NOBODY,
    STRANGER,
    Child,
    User,
    eventually,
    hear,
    in_child,
    say,
)
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted
from tests.support.programs import environment

_PAGES = 8
_FOLLOWERS = 10
_WHILE = 0.5
"""Seconds in which nothing must happen."""


def _stream(mounted: Mounted) -> Path:
    return mounted.path / ".anonfs" / "events"


def _open(path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    os.ftruncate(fd, _PAGES * PAGE_SIZE)
    return fd


def _look(path: Path | int) -> None:
    os.getxattr(path, "user.anonfs.ring")


def _story(path: Path) -> list[VmEvent]:
    """Map, fork, unmap a part, exit, unmap, unlink; returns what should be told of it."""
    fd = _open(path)
    ino, me = os.fstat(fd).st_ino, os.getpid()
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    start, whole = mapping.address, _PAGES * PAGE_SIZE
    _look(fd)
    with Child(hear) as child:
        _look(fd)
        mapping.unmap(6 * PAGE_SIZE, 2 * PAGE_SIZE)
        _look(fd)
        child.kill()
        child.wait()
        _look(fd)
        pid = child.pid
    mapping.unmap()
    path.unlink()
    os.close(fd)
    known = path.parent / ".anonfs" / "inodes" / str(ino)
    eventually(lambda: not known.exists(), "the kernel has told that it is gone")

    def event(kind: str, pid: int, size: int, parent: int | None = None) -> VmEvent:
        span = start, start + size, 0, size // PAGE_SIZE
        return VmEvent(0.0, ino, path.name, kind, pid, parent, *span)

    return [
        event("open", me, whole),
        event("dup", pid, whole, me),
        event("close", pid, whole),
        event("close", me, 6 * PAGE_SIZE),
        VmEvent(0.0, ino, None, "delete"),
    ]


def _timeless(events: list[VmEvent]) -> list[VmEvent]:
    shown = []
    for event in events:
        name = event.name if event.event != "close" else None
        numbers = event.pid, event.parent, event.start, event.end, event.offset, event.pages
        shown.append(VmEvent(0.0, event.inode, name, event.event, *numbers))
    return shown


def _follow_to_the_end(path: Path) -> None:
    """Says what it reads until a delete."""
    with watch(mount=path, timeout=20) as events:
        say("follows")
        told = []
        for event in events:
            told.append(event)
            if event.event == "delete":
                break
        say((told, events.lost))


def test_ten_followers_are_told_the_same_story(mounted: Mounted) -> None:
    followers = [Child(_follow_to_the_end, mounted.path) for _ in range(_FOLLOWERS)]
    try:
        assert {follower.said() for follower in followers} == {"follows"}
        expected = _timeless(_story(mounted.path / "f"))
        for follower in followers:
            told, lost = follower.said()
            assert _timeless(told) == expected
            assert lost == 0
            times = [event.time for event in told]
            assert times == sorted(times)
            assert abs(times[0] - time.time()) < 60
    finally:
        for follower in followers:
            follower.__exit__()


def _delete_some(here: Path, count: int) -> None:
    for _ in range(count):
        (here / "x").touch()
        (here / "x").unlink()


def _be_slow(here: Path) -> None:
    before = meminfo(here.absolute()).inodes
    with watch(mount=here.absolute(), timeout=0) as events:
        for count in (1500, 1):
            _delete_some(here, count)
            eventually(lambda: meminfo(here.absolute()).inodes == before, "all of them are gone")
            say((len(list(events)), events.lost))


@pytest.mark.usefixtures("as_root")
def test_a_slow_follower_is_told_what_it_lost_and_goes_on(mounted: Mounted) -> None:
    mounted.workplace.chmod(0o755)
    with Child(_be_slow, Path(), user=STRANGER, directory=mounted.path) as child:
        told, lost = child.said()
        assert told + lost == 1500
        assert lost > 300
        assert child.said() == (1, lost)


def _cat(mounted: Mounted) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["cat", str(_stream(mounted))], stdout=subprocess.PIPE)


def _lines(process: "subprocess.Popen[bytes]", count: int) -> list[VmEvent | Lost]:
    """The next lines of a program, which must come in time."""
    assert process.stdout is not None
    text = b""
    while text.count(b"\n") < count:
        assert select.select([process.stdout], [], [], 20)[0], f"no more after {text!r}"
        piece = os.read(process.stdout.fileno(), 1 << 16)
        assert piece, "it has ended"
        text += piece
    return [parse_event_line(line) for line in text.decode().splitlines()]


def test_cat_follows_until_it_is_killed(mounted: Mounted) -> None:
    (mounted.path / "old").touch()
    (mounted.path / "old").unlink()
    with _cat(mounted) as cat:
        assert [event.event for event in _lines(cat, 1) if isinstance(event, VmEvent)] == ["delete"]
        mapping = Mapping(_open(mounted.path / "f"), PAGE_SIZE)
        _look(mounted.path / "f")
        (found,) = _lines(cat, 1)
        assert isinstance(found, VmEvent)
        assert (found.event, found.pid, found.start) == ("open", os.getpid(), mapping.address)
        assert cat.stdout is not None
        assert not select.select([cat.stdout], [], [], _WHILE)[0]
        assert mounted.responds(), "nobody waits for it"
        cat.kill()
        assert cat.wait(20) == -signal.SIGKILL


def test_a_signal_handler_runs_while_a_read_waits(mounted: Mounted) -> None:
    def wait() -> None:
        class Interrupted(Exception):  # noqa: N818
            pass

        def handle(*_: object) -> None:
            raise Interrupted

        signal.signal(signal.SIGUSR1, handle)
        fd = os.open(_stream(mounted), os.O_RDONLY)
        say("waits")
        try:
            while True:
                os.read(fd, 4096)
        except Interrupted:
            say("interrupted")

    with Child(wait) as child:
        assert child.said() == "waits"
        assert not child.has_said(_WHILE)
        child.kill(signal.SIGUSR1)
        assert child.said() == "interrupted"


def test_a_shell_reads_it_line_by_line(mounted: Mounted) -> None:
    (mounted.path / "f").touch()
    (mounted.path / "f").unlink()
    script = f'while read -r line; do echo "got $line"; break; done < {_stream(mounted)}'
    told = mounted.run(["sh", "-c", script], 20).check()
    assert VmEvent.parse(told.removeprefix("got ")).event == "delete"


def test_poll_select_and_epoll(mounted: Mounted) -> None:
    fd = os.open(_stream(mounted), os.O_RDONLY | os.O_NONBLOCK)
    assert outcome(os.read, fd, 4096) == "EAGAIN"
    assert outcome(os.pread, fd, 4096, 0) == "ESPIPE"
    edges = select.epoll()
    edges.register(fd, select.EPOLLIN | select.EPOLLET)
    assert edges.poll(0) == []
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(_WHILE * 1000) == []
    for turn in range(3):
        waiting = threading.Thread(target=_delete_some, args=(mounted.path, 1))
        waiting.start()
        assert poll.poll(20_000) == [(fd, select.POLLIN)]
        waiting.join()
        assert select.select([fd], [], [], 0) == ([fd], [], [])
        assert edges.poll(20) == [(fd, select.EPOLLIN)]
        assert os.read(fd, 1 << 16).count(b"\n") == 1, turn
        assert select.select([fd], [], [], 0) == ([], [], [])
        assert outcome(os.read, fd, 4096) == "EAGAIN"
    edges.close()
    os.close(fd)


def _open_many(path: Path, count: int) -> tuple[int, set[object]]:
    room = count + 1000  # it has those of the test run open as well
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, room))
    answers = [outcome(os.open, path, os.O_RDONLY) for _ in range(count)]
    return sum(isinstance(answer, int) for answer in answers), {
        answer for answer in answers if not isinstance(answer, int)
    }


@pytest.mark.usefixtures("as_root")
def test_a_hostile_user_is_refused_and_others_are_not(mounted: Mounted) -> None:
    def open_many(here: Path) -> None:
        say(_open_many(here / ".anonfs" / "events", 10_000))
        hear()

    with Child(open_many, Path(), user=STRANGER, directory=mounted.path) as child:
        assert child.said() == (64, {"EMFILE"})
        assert in_child(_open_many, _stream(mounted), 10) == (10, set())
        _delete_some(mounted.path, 100)
    assert "no more" in mounted.log_text()
    eventually(
        lambda: in_child(_open_many, _stream(mounted), 80) == (64, {"EMFILE"}),
        "what the dead had open is closed",
    )


def _told_of(here: Path, act: Callable[[], object]) -> list[VmEvent]:
    with watch(mount=here.absolute(), timeout=0) as events:
        say("follows")
        hear()
        act()
        return list(events)


@pytest.mark.usefixtures("as_root")
def test_what_others_may_know(mounted: Mounted) -> None:
    mounted.workplace.chmod(0o755)
    closed = mounted.path / "closed"
    closed.mkdir(mode=0o700)
    open_to_all, of_root = mounted.path / "open", mounted.path / "secret"
    for path, mode in ((open_to_all, 0o644), (of_root, 0o600), (closed / "f", 0o644)):
        os.close(_open(path))
        path.chmod(mode)
    inos = {path.stat().st_ino: path.name for path in (open_to_all, of_root, closed / "f")}

    def map_own() -> None:
        path = Path("own")
        Mapping(_open(path), PAGE_SIZE)
        path.chmod(0o600)
        _look(path)

    followers = [
        Child(_told_of, Path(), act, user=user, directory=mounted.path)
        for user, act in ((User(0, 0), print), (STRANGER, map_own), (NOBODY, print))
    ]
    try:
        for follower in followers:
            assert follower.said() == "follows"
        fds = [_open(path) for path in (open_to_all, of_root, closed / "f")]
        for fd in fds:
            Mapping(fd, PAGE_SIZE)
        _look(open_to_all)
        root, stranger, nobody = followers
        stranger.tell()
        by_stranger = stranger.said()
        for follower in (root, nobody):
            follower.tell()
        by_root, by_nobody = root.said(), nobody.said()
    finally:
        for follower in followers:
            follower.__exit__()
    ours = [event for event in by_root if event.inode in inos]
    assert sorted(event.name or "" for event in ours) == ["closed/f", "open", "secret"]
    assert all(event.start for event in ours)
    (seen,) = (event for event in by_nobody if event.inode in inos)
    assert (seen.name, seen.pid, seen.start, seen.end) == ("open", os.getpid(), None, None)
    assert not [event for event in by_nobody if event.inode not in inos], "the stranger's own"
    own = [event for event in by_stranger if event.inode not in inos]
    assert [event.event for event in own] == ["open"]
    assert own[0].start


def test_a_follower_does_not_keep_a_mount_from_ending(mounted: Mounted) -> None:
    (mounted.path / "f").touch()
    (mounted.path / "f").unlink()
    with _cat(mounted) as cat:
        assert _lines(cat, 1)
        assert mounted.stop() == []
        assert cat.wait(20) == 0, "it came to the end of the file"


def test_an_unmount_elsewhere_ends_the_followers_and_then_the_daemon(mounted: Mounted) -> None:
    (mounted.path / "f").touch()
    (mounted.path / "f").unlink()
    with _cat(mounted) as cat:
        assert _lines(cat, 1)
        subprocess.run(["fusermount3", "-u", "-z", "--", str(mounted.path)], check=True)
        assert cat.wait(20) == 0
        assert mounted.process.wait(20) == 0


def test_a_killed_daemon_ends_the_followers(mounted: Mounted) -> None:
    mounted.expected_status = -signal.SIGKILL
    with _cat(mounted) as cat:
        mapping = Mapping(_open(mounted.path / "f"), PAGE_SIZE)
        _look(mounted.path / "f")
        assert _lines(cat, 1)
        mapping.unmap()
        mounted.process.kill()
        assert cat.wait(20) == 1


def test_readers_that_share_a_stream_share_its_events(mounted: Mounted) -> None:
    fd = os.open(_stream(mounted), os.O_RDONLY)
    told: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    readers = [threading.Thread(target=lambda: told.put(os.read(fd, 1 << 16))) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in readers:
        _delete_some(mounted.path, 1)
        assert told.get(timeout=20).count(b"\n") == 1
    for reader in readers:
        reader.join()
    os.close(fd)


def test_what_is_told_of_swapping(mounted: Mounted) -> None:
    path = mounted.path / "f"
    path.write_bytes(b"x" * _PAGES * PAGE_SIZE)
    with watch(path, timeout=20) as events:
        os.setxattr(path, "user.anonfs.swapout", b"2-4")
        told = next(events)
        assert (told.event, told.offset, told.pages) == ("swapout", 2 * PAGE_SIZE, 3)
        (mounted.path / "other").write_bytes(b"x")
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
            assert os.pread(file.fileno(), 1, 3 * PAGE_SIZE) == b"x"
        told = next(events)
        assert told.event == "fault"
        assert told.inode == path.stat().st_ino
        assert told.offset is not None
        assert told.pages is not None
        assert told.offset <= 3 * PAGE_SIZE < told.offset + told.pages * PAGE_SIZE


class _Counting:
    """A method for each event."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def open(self, event: VmEvent) -> None:
        self.calls.append(event.event)

    dup = close = delete = fault = swapout = open  # noqa: A003


def test_callbacks(mounted: Mounted) -> None:
    fs = connect(mounted.path)
    counting, called = _Counting(), list[VmEvent]()
    with fs.watch(callback=counting), fs.watch(callback=called.append) as events:
        _story(mounted.path / "f")
        expected = ["open", "dup", "close", "close", "delete"]
        eventually(lambda: len(counting.calls) == len(called) == 5, "all callbacks are called")
        assert counting.calls == [event.event for event in called] == expected
        with pytest.raises(ValueError, match="callback"):
            next(events)
    _delete_some(mounted.path, 1)
    assert len(called) == 5


def test_the_command_line(mounted: Mounted) -> None:
    _story(mounted.path / "f")
    other = mounted.path / "g"  # whose inode may well have the number of the other one
    mapping = Mapping(_open(other), PAGE_SIZE)
    _look(other)
    lines = anonfs("events", str(other)).stdout.splitlines()
    assert lines[0].split() == [
        "TIME",
        "EVENT",
        "PID",
        "PARENT",
        "ADDRESSES",
        "FILE",
        "PAGES",
        "FILE",
    ]
    span = f"{mapping.address:x}-{mapping.address + PAGE_SIZE:x}"
    # The command itself was a child of ours for a moment, with our areas until its exec.
    own = str(os.getpid())
    shown = [line.split()[1:] for line in lines[1:]]
    assert [fields for fields in shown if fields[1] == own] == [
        ["open", own, "-", span, "0-0", "g"]
    ]
    told = anonfs("events", "--json", extra={"ANONFS_MOUNT": str(mounted.path)}).stdout
    events = [VmEvent.parse(line) for line in told.splitlines()]
    story = ["open", "dup", "close", "close", "delete"]
    ours = [event.event for event in events if event.name != "g" or event.pid == os.getpid()]
    assert ours == [*story, "open"]


def test_the_command_line_follows(mounted: Mounted) -> None:
    path = mounted.path / "f"
    os.close(_open(path))
    command = [sys.executable, "-m", "anonfs", "events", str(path), "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as follower:
        mapping = Mapping(_open(path), PAGE_SIZE)
        _look(path)
        (event,) = _lines(follower, 1)
        assert isinstance(event, VmEvent)
        assert (event.event, event.start) == ("open", mapping.address)
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) == 130
