import errno
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from typing import cast

import pytest
import trio
import trio.testing

from anonfs.errors import AnonfsError
from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE, Ino
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode
from anonfs.vm import MappedArea, ProcessMaps, ShareRing
from anonfsd import _rings
from anonfsd._proc_events import ProcConnector
from anonfsd._rings import Rings
from tests.daemon.paged import soon

DEVICE = (0, 99)
_PATIENT = 20.0


class FakeProc:
    """A /proc that shows what it is told to, once it may."""

    def __init__(self) -> None:
        self.shown: list[ProcessMaps] = []
        self.looks = 0
        self.asked: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def scan(
        self,
        device: tuple[int, int],
        pids: Collection[int] | None = None,
        _own: Collection[tuple[int, int]] = (),
    ) -> list[ProcessMaps]:
        assert device == DEVICE
        self.looks += 1
        shown = list(self.shown)
        if pids is not None:
            known = {process.pid: process for process in shown}
            shown = [known.get(pid, ProcessMaps.nobody(pid)) for pid in pids]
            self.asked.append(sorted(pids))
        assert self.gate.wait(10)
        return shown

    def map(self, pid: int, ino: Ino, *, parent: int = 1) -> None:
        area = MappedArea(ino, 0x1000, 0x1000 + PAGE_SIZE, 0, "rw-s")
        self.shown.append(ProcessMaps(pid, pid, parent, 1000, (area,)))


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    fake = FakeProc()
    monkeypatch.setattr(_rings, "scan", fake.scan)
    return fake


@pytest.fixture
def fs() -> Iterator[FileSystem]:
    image = Image(4)
    memory = Memory(image, SwapArea(MemoryStore(4)))
    filesystem = FileSystem(image, memory, NewInode(0o040755, 0, 0))
    yield filesystem
    filesystem.check_invariants()
    for inode in filesystem.inodes.values():
        inode.check_invariants(areas=len(ShareRing(inode)))
    image.close()


@pytest.fixture
def opened(fs: FileSystem) -> Inode:
    inode = fs.make(ROOT, b"a", NewInode(0o100644, 0, 0))
    fs.open(inode)
    return inode


def run(script: Callable[[], object], clock: trio.abc.Clock | None = None) -> None:
    async def bounded() -> None:
        with trio.fail_after(10_000 if clock else 20):
            await script()  # type: ignore[misc]

    trio.run(bounded, clock=clock)


def test_a_look_makes_the_ring_what_proc_shows(
    fs: FileSystem, proc: FakeProc, opened: Inode
) -> None:
    rings = Rings(fs, DEVICE)
    proc.map(10, opened.ino)
    proc.map(11, opened.ino, parent=10)

    async def script() -> None:
        await rings.look()
        assert [area.pid for area in ShareRing(opened)] == [10, 11]
        assert opened.dentry.count == 4
        proc.shown.pop()
        await rings.look()
        assert [area.pid for area in ShareRing(opened)] == [10]

    run(script)
    rings.spaces.check_invariants()


def test_the_last_release_closes_what_is_left_without_a_look(
    fs: FileSystem, proc: FakeProc, opened: Inode
) -> None:
    rings = Rings(fs, DEVICE)
    proc.map(10, opened.ino)
    run(rings.look)
    rings.note_last_release(opened)
    fs.release(opened)
    assert (len(ShareRing(opened)), opened.dentry.count) == (0, 1)


async def held_look(nursery: trio.Nursery, rings: Rings, proc: FakeProc) -> None:
    """A look that has begun, and ends once the gate is set."""
    proc.gate.clear()
    nursery.start_soon(rings.look)
    while proc.looks == 0:
        await trio.lowlevel.checkpoint()


def test_a_look_begun_before_the_last_release_brings_nothing_back(
    fs: FileSystem, proc: FakeProc, opened: Inode
) -> None:
    rings = Rings(fs, DEVICE)
    proc.map(10, opened.ino)

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            await held_look(nursery, rings, proc)
            rings.note_last_release(opened)
            fs.release(opened)
            proc.gate.set()

    run(script)
    assert len(ShareRing(opened)) == 0


def test_callers_that_come_during_a_look_share_the_next_one(
    fs: FileSystem, proc: FakeProc, opened: Inode
) -> None:
    rings = Rings(fs, DEVICE)

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            await held_look(nursery, rings, proc)
            proc.map(10, opened.ino)
            for _ in range(5):
                nursery.start_soon(rings.look)
            await trio.testing.wait_all_tasks_blocked()
            proc.gate.set()

    run(script)
    assert proc.looks == 2
    assert len(ShareRing(opened)) == 1


def without_a_thread(rings: Rings, proc: FakeProc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look on the event loop: a mocked clock would not wait for a thread."""

    async def scan(pids: Collection[int] | None = None) -> list[ProcessMaps]:
        await trio.lowlevel.checkpoint()
        return proc.scan(DEVICE, pids)

    monkeypatch.setattr(rings, "_scan", scan)


def test_the_background_looks_soon_after_a_change_and_else_ever_more_seldom(
    fs: FileSystem, proc: FakeProc, opened: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = Rings(fs, DEVICE)
    without_a_thread(rings, proc, monkeypatch)

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rings.look_now_and_then)
            await trio.sleep(3600)
            seldom = proc.looks
            assert 100 < seldom < 200
            proc.map(10, opened.ino)
            rings.note_change()
            await trio.sleep(1)
            assert len(ShareRing(opened)) == 1
            nursery.cancel_scope.cancel()

    run(script, trio.testing.MockClock(autojump_threshold=0))


class QuietConnector:
    """Nothing is ever told."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()

    def fileno(self) -> int:
        return self._ours.fileno()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


def test_with_events_the_pass_looks_at_openers_and_at_everybody_seldom(
    fs: FileSystem, proc: FakeProc, opened: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = Rings(fs, DEVICE)
    without_a_thread(rings, proc, monkeypatch)
    proc.map(10, opened.ino)
    connector = QuietConnector()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rings.follow, cast("ProcConnector", connector))
            nursery.start_soon(rings.look_now_and_then)
            await trio.sleep(3600)
            everybody = proc.looks - len(proc.asked)
            assert 100 < everybody < 200
            rings.note_open(10)
            proc.asked.clear()
            proc.looks = 0
            await trio.sleep(10)
            assert proc.asked[:3] == [[10]] * 3
            assert proc.looks == len(proc.asked)
            rings.note_open(0)  # from another pid namespace
            await trio.sleep(1)
            assert proc.looks > len(proc.asked)
            nursery.cancel_scope.cancel()

    run(script, trio.testing.MockClock(autojump_threshold=0))
    connector.close()
    assert [area.pid for area in ShareRing(opened)] == [10]


def test_a_close_is_a_look_at_the_opener(fs: FileSystem, proc: FakeProc, opened: Inode) -> None:
    rings = Rings(fs, DEVICE)
    proc.map(10, opened.ino)
    connector = QuietConnector()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rings.follow, cast("ProcConnector", connector))
            await trio.testing.wait_all_tasks_blocked()
            rings.note_open(10)
            rings.note_close(10)
            while len(ShareRing(opened)) == 0:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    run(script)
    connector.close()
    assert proc.asked == [[10]]


def test_closes_that_follow_each_other_are_looked_at_together(
    fs: FileSystem, proc: FakeProc, opened: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = Rings(fs, DEVICE)
    without_a_thread(rings, proc, monkeypatch)
    proc.map(10, opened.ino)
    connector = QuietConnector()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rings.follow, cast("ProcConnector", connector))
            await trio.testing.wait_all_tasks_blocked()
            rings.note_open(10)
            for _ in range(100):
                rings.note_close(10)
                await trio.sleep(0.001)
            proc.shown.clear()
            rings.note_close(10)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()

    run(script, trio.testing.MockClock(autojump_threshold=0))
    connector.close()
    assert 10 <= len(proc.asked) <= 25
    assert len(ShareRing(opened)) == 0, "the last close was looked at, too"


def test_without_an_open_file_there_is_nothing_to_look_for(fs: FileSystem, proc: FakeProc) -> None:
    rings = Rings(fs, DEVICE)

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rings.look_now_and_then)
            await trio.sleep(3600)
            nursery.cancel_scope.cancel()

    run(script, trio.testing.MockClock(autojump_threshold=0))
    assert proc.looks == 0


def test_a_look_that_gets_stuck_is_given_up_and_the_next_one_works(
    fs: FileSystem, proc: FakeProc, opened: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rings, "_LOOK_SECONDS", 0.05)
    rings = Rings(fs, DEVICE)
    proc.map(10, opened.ino)
    proc.gate.clear()

    async def script() -> None:
        answers: list[int | None] = []

        async def look() -> None:
            with pytest.raises(AnonfsError) as caught:
                await rings.look()
            answers.append(caught.value.errno)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(look)
        assert answers == [errno.EAGAIN] * 5
        soon(lambda: proc.looks > 0)  # its thread may have begun as late as now
        assert proc.looks == 1  # they share it, and its failure
        proc.gate.set()
        monkeypatch.setattr(_rings, "_LOOK_SECONDS", _PATIENT)
        await rings.look()
        assert len(ShareRing(opened)) == 1

    run(script)


def test_the_background_outlives_a_look_that_fails(
    fs: FileSystem, proc: FakeProc, opened: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = Rings(fs, DEVICE)
    failures = [OSError(errno.ENFILE, "too many")]
    proc.map(10, opened.ino)

    async def scan() -> list[ProcessMaps]:
        await trio.lowlevel.checkpoint()
        if failures:
            raise failures.pop()
        return proc.scan(DEVICE)

    monkeypatch.setattr(rings, "_scan", scan)

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rings.look_now_and_then)
            await trio.sleep(60)
            nursery.cancel_scope.cancel()
        assert len(ShareRing(opened)) == 1

    run(script, trio.testing.MockClock(autojump_threshold=0))


def test_counting_dirty_pages_is_bounded(
    fs: FileSystem, proc: FakeProc, opened: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[frozenset[int]] = []

    def dirty_bytes(_device: tuple[int, int], pids: frozenset[int]) -> int:
        asked.append(pids)
        assert proc.gate.wait(10)
        return PAGE_SIZE

    monkeypatch.setattr(_rings, "dirty_bytes", dirty_bytes)
    rings = Rings(fs, DEVICE)
    proc.map(10, opened.ino)

    async def script() -> None:
        await rings.look()
        assert await rings.dirty_bytes() == PAGE_SIZE
        assert asked == [frozenset({10})]
        proc.gate.clear()
        monkeypatch.setattr(_rings, "_LOOK_SECONDS", 0.2)

        async def count() -> None:
            with pytest.raises(AnonfsError) as caught:
                await rings.dirty_bytes()
            assert caught.value.errno == errno.EAGAIN

        with trio.fail_after(5):  # one after the other they would take ten
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(count)
        proc.gate.set()
        monkeypatch.setattr(_rings, "_LOOK_SECONDS", _PATIENT)
        assert await rings.dirty_bytes() == PAGE_SIZE

    run(script)
