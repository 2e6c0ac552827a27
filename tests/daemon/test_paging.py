import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anonfs.errors import AnonfsError
from anonfs.events import VmEvent
from anonfs.swap import AsyncReads, FileStore
from anonfs.units import PAGE_SIZE
from anonfs.vfs import Inode
from anonfs.vm import EventReader, Sight
from tests.daemon.paged import (
    FakeReceiver,
    GatedStore,
    Paged,
    bytes_of,
    gated,
    in_thread,
    soon,
)
from tests.mm.engine import page, states


@pytest.fixture
def store() -> GatedStore:
    return GatedStore(4096)


@pytest.fixture
def paged(store: GatedStore) -> Iterator[Paged]:
    with gated(store) as paged:
        yield paged


@pytest.fixture
def file(paged: Paged) -> Inode:
    return paged.file(pages=1)


def swap_out(paged: Paged, file: Inode, first: int = 0, last: int = 0) -> None:
    paged.reclaim.swap_out(file, first, last)


def states_of(file: Inode, pages: int) -> str:
    assert file.info is not None
    return states(file.info, pages)


# -- waiting or not ------------------------------------------------------------------------


def test_what_is_in_core_is_read_and_written_without_a_wait(paged: Paged, file: Inode) -> None:
    receiver, writer = FakeReceiver(), FakeReceiver()
    assert paged.write(file.ino, 0, page("a"), writer) == PAGE_SIZE
    assert paged.read(file.ino, 0, PAGE_SIZE, receiver) == page("a")
    assert not receiver.let | writer.let, "the leader goes on leading"


def test_a_hole_is_read_without_a_wait(paged: Paged) -> None:
    file, receiver = paged.file(b"holes", 3), FakeReceiver()
    assert paged.read(file.ino, 0, 1 << 20, receiver) == bytes(3 * PAGE_SIZE)
    assert not receiver.let
    assert paged.memory.loaded.pages == 3


def test_a_read_ends_with_the_file(paged: Paged, file: Inode) -> None:
    paged.write(file.ino, 0, b"abc")
    paged.filesystem.truncate(file, 3)
    assert paged.read(file.ino, 1, PAGE_SIZE) == b"bc"
    assert paged.read(file.ino, 3, PAGE_SIZE) == b""


def test_more_than_the_frames_hold_goes_through_swap(paged: Paged, file: Inode) -> None:
    writes = [
        in_thread(paged.write, file.ino, number * PAGE_SIZE, page(f"{number:04}"))
        for number in range(40)
    ]
    assert {write() for write in writes} == {PAGE_SIZE}
    for number in range(40):
        assert paged.read(file.ino, number * PAGE_SIZE, PAGE_SIZE) == page(f"{number:04}")
    assert file.allocated == 40


def test_others_are_served_while_one_waits_for_swap(
    paged: Paged, file: Inode, store: GatedStore
) -> None:
    other, receiver = paged.file(b"other"), FakeReceiver()
    paged.write(file.ino, 0, page("a"))
    swap_out(paged, file)
    store.shut()
    reading = in_thread(paged.read, file.ino, 0, PAGE_SIZE, receiver)
    store.entered()
    assert receiver.let, "another thread may lead"
    paged.write(other.ino, 0, page("b"))
    assert paged.read(other.ino, 0, PAGE_SIZE) == page("b")
    paged.check()
    store.gate.set()
    assert reading() == page("a")


def test_a_page_on_its_way_to_swap_is_read(paged: Paged, file: Inode, store: GatedStore) -> None:
    paged.write(file.ino, 0, page("a"))
    store.shut()
    swapping = in_thread(swap_out, paged, file)
    store.entered()
    assert paged.read(file.ino, 0, PAGE_SIZE) == page("a")
    store.gate.set()
    swapping()
    assert states_of(file, 1) == "s"


def test_a_page_written_while_it_is_loaded_for_a_partial_write(
    paged: Paged, file: Inode, store: GatedStore
) -> None:
    paged.write(file.ino, 0, page("a"))
    swap_out(paged, file)
    store.shut()
    writing = in_thread(paged.write, file.ino, 1, b"xx")
    store.entered()
    assert paged.write(file.ino, 0, page("b")) == PAGE_SIZE
    store.gate.set()
    assert writing() == 2
    assert bytes_of(paged, file, 0, 4) == b"bxxb"


def test_a_page_that_goes_to_swap_again_while_a_write_waits(
    paged: Paged, file: Inode, store: GatedStore
) -> None:
    """After the wait for room the page has to be looked at again."""
    paged.write(file.ino, 0, page("a"))
    paged.write(file.ino, PAGE_SIZE, page("b") * 7)
    store.shut()
    writing = in_thread(paged.write, file.ino, 8 * PAGE_SIZE, page("c") * 2)
    store.entered()
    store.gate.set()
    assert writing() == 2 * PAGE_SIZE
    swap_out(paged, file, 0, 9)
    assert paged.write(file.ino, 5, b"x") == 1
    assert bytes_of(paged, file, 4, 3) == b"axa"
    assert bytes_of(paged, file, 9 * PAGE_SIZE, PAGE_SIZE) == page("c")


# -- truncating ----------------------------------------------------------------------------


# -- errors --------------------------------------------------------------------------------


# -- reading meanwhile ---------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[tuple[Paged, AsyncReads, Path]]:
    """Paging over a swap file that is read asynchronously."""
    path = tmp_path / "swap"
    store = FileStore.create(path, 1024 * PAGE_SIZE, keep=True)
    paged = Paged(store=store)
    reads = store.async_reads(4)
    assert reads is not None
    yield paged, reads, path
    paged.check()
    reads.close()
    paged.close()
    store.close()


def test_a_page_that_is_read_meanwhile(on_disk: tuple[Paged, AsyncReads, Path]) -> None:
    paged, reads, _ = on_disk
    file, receiver = paged.file(pages=1), FakeReceiver(reads)
    paged.write(file.ino, 0, page("a"))
    swap_out(paged, file)
    assert paged.paging.read(file.ino, 1, 9, receiver, own=False) == 0
    assert not receiver.replies
    assert not receiver.let, "the leader goes on leading"
    paged.filesystem.truncate(file, 0)  # its slot must stay what it is
    read, data, error = receiver.ended()
    assert paged.paging.end_read(read, data, error) == 0
    assert bytes(read.data) == page("a")[1:10]
    assert paged.memory.swap.used == 0, "the slot is let go"


def test_a_page_that_comes_back_wrong_is_eio(
    on_disk: tuple[Paged, AsyncReads, Path], caplog: pytest.LogCaptureFixture
) -> None:
    paged, reads, path = on_disk
    file, receiver = paged.file(pages=1), FakeReceiver(reads)
    paged.write(file.ino, 0, page("a"))
    swap_out(paged, file)
    with path.open("r+b") as swap:
        swap.write(bytes(64 * PAGE_SIZE))
    for _ in range(2):
        paged.paging.read(file.ino, 0, PAGE_SIZE, receiver, own=False)
        read, data, error = receiver.ended()
        assert paged.paging.end_read(read, data, error) == errno.EIO
    assert paged.memory.swap.checksum_errors == 2
    assert [record.message for record in caplog.records] == [
        f"inode {file.ino}: damaged on swap: page 0 (slot 1)"
    ], "it is told once"


def test_a_page_that_does_not_come_is_eio(
    on_disk: tuple[Paged, AsyncReads, Path], caplog: pytest.LogCaptureFixture
) -> None:
    paged, reads, path = on_disk
    file, receiver = paged.file(pages=1), FakeReceiver(reads)
    paged.write(file.ino, 0, page("a"))
    swap_out(paged, file)
    os.truncate(path, 0)
    paged.paging.read(file.ino, 0, PAGE_SIZE, receiver, own=False)
    read, data, error = receiver.ended()
    assert paged.paging.end_read(read, data, error) == errno.EIO
    assert paged.memory.swap.read_errors == 1
    assert "unreadable on swap: page 0" in caplog.text


def test_full_is_enospc_and_loses_nothing(paged: Paged, file: Inode) -> None:
    taken = paged.memory.swap.allocate(paged.memory.swap.free)
    assert paged.write(file.ino, 0, page("a") * 8) == 8 * PAGE_SIZE
    assert paged.write(file.ino, 9 * PAGE_SIZE, page("b")) == "ENOSPC"
    assert paged.write(file.ino, 0, page("c")) == PAGE_SIZE
    assert paged.read(file.ino, 0, 2 * PAGE_SIZE) == page("c") + page("a")
    assert file.size == 8 * PAGE_SIZE
    paged.memory.swap.release(taken)


def test_a_write_waits_while_all_that_could_go_to_swap_is_on_its_way(
    paged: Paged, file: Inode, store: GatedStore
) -> None:
    paged.write(file.ino, 0, page("a") * 8)
    store.shut()
    swapping = in_thread(swap_out, paged, file, 0, 7)
    store.entered()
    writing = in_thread(paged.write, file.ino, 8 * PAGE_SIZE, page("b"))
    store.gate.set()
    swapping()
    assert writing() == PAGE_SIZE


def test_a_disk_that_fails_has_time_to_recover(
    paged: Paged, file: Inode, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonfsd._paging._HOLD_SECONDS", 0.01)
    monkeypatch.setattr("anonfs.swap._health._PROBE_SECONDS", 0.01)
    paged.write(file.ino, 0, page("a") * 8)
    store.fail_writes = True
    writing = in_thread(paged.write, file.ino, 8 * PAGE_SIZE, page("b"))
    soon(lambda: paged.memory.swap.failing)
    store.fail_writes = False
    assert writing() == PAGE_SIZE


def test_a_disk_that_does_not_recover_is_eio(
    paged: Paged, file: Inode, store: GatedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonfsd._paging._HOLD_SECONDS", 0.01)
    monkeypatch.setattr("anonfsd._paging._FAILING_SECONDS", 0.1)
    paged.write(file.ino, 0, page("a") * 8)
    store.fail_writes = True
    assert paged.write(file.ino, 8 * PAGE_SIZE, page("b")) == "EIO"
    assert (file.size, states_of(file, 8)) == (8 * PAGE_SIZE, "c" * 8)


# -- holding back --------------------------------------------------------------------------


@pytest.fixture
def dear(file: Inode, paged: Paged) -> Inode:
    """A file of a mount that costs too much."""
    paged.filesystem.truncate(file, 2000 * PAGE_SIZE)
    assert file.info is not None
    paged.memory.loaded.load(file.info, 0, 600)
    _allow(paged, 512)
    assert paged.budget.is_exceeded
    return file


def _allow(paged: Paged, pages: int) -> None:
    paged.budget.start = paged.budget.high = pages


def _held(paged: Paged) -> int:
    with paged.lock:
        return paged.paging._held


def _patience(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("anonfsd._paging._HOLD_SECONDS", seconds)


def test_a_read_is_held_back_until_cost_sinks(
    paged: Paged, dear: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _patience(monkeypatch, 1000.0)
    receiver = FakeReceiver()
    reading = in_thread(paged.read, dear.ino, 1500 * PAGE_SIZE, PAGE_SIZE, receiver)
    soon(lambda: _held(paged) == 1)
    assert receiver.let
    assert not receiver.replies
    with paged.lock:
        _allow(paged, 1000)
        paged.reclaim.room.notify_all()
    assert reading() == bytes(PAGE_SIZE)
    assert paged.memory.counters.throttled == 1


def test_a_read_is_held_back_for_so_long(
    paged: Paged, dear: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _patience(monkeypatch, 0.02)
    assert paged.read(dear.ino, 1500 * PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)
    assert paged.budget.is_exceeded
    assert _held(paged) == 0


def test_a_read_of_a_chunk_that_is_unloaded_is_not_held_back(
    paged: Paged, dear: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _patience(monkeypatch, 1000.0)
    assert dear.info is not None
    with paged.lock:
        unload = paged.memory.loaded.begin_range(dear.info, 10, 1)
    receiver = FakeReceiver()
    assert paged.read(dear.ino, 500 * PAGE_SIZE, PAGE_SIZE, receiver) == bytes(PAGE_SIZE)
    assert not receiver.let
    paged.memory.loaded.end(unload)


def test_a_chunk_of_which_a_read_is_held_back_is_passed_over(
    paged: Paged, dear: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _patience(monkeypatch, 1000.0)
    reading = in_thread(paged.read, dear.ino, 0, PAGE_SIZE)
    soon(lambda: _held(paged) == 1)
    with paged.lock:
        unload = paged.memory.loaded.begin(10**6)
        assert unload is not None
        assert unload.runs == [(512, 512)]
        paged.memory.loaded.end(unload)
        _allow(paged, 10**6)
        paged.reclaim.room.notify_all()
    reading()


def test_not_every_thread_is_held_back(
    paged: Paged, dear: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write-backs that make room need one."""
    _patience(monkeypatch, 1000.0)
    held = [in_thread(paged.read, dear.ino, at * PAGE_SIZE, PAGE_SIZE) for at in range(6)]
    soon(lambda: _held(paged) == 6)
    assert paged.read(dear.ino, 0, PAGE_SIZE) == bytes(PAGE_SIZE)
    _allow(paged, 10**6)
    with paged.lock:
        paged.reclaim.room.notify_all()
    assert [reading() for reading in held] == [bytes(PAGE_SIZE)] * 6


def test_the_daemons_own_reads_are_not_held_back(paged: Paged, dear: Inode) -> None:
    receiver = FakeReceiver()
    assert paged.paging.read(dear.ino, 0, PAGE_SIZE, receiver, own=True) == 0
    assert not receiver.let


# -- events --------------------------------------------------------------------------------


def test_faults_and_swap_outs_are_told(paged: Paged) -> None:
    file = paged.file(b"told", pages=4)
    for number in range(3):
        paged.write(file.ino, number * PAGE_SIZE, page(f"{number}"))
    reader = EventReader(lambda _: Sight.ALL, lambda: None, 100, 1 << 20)
    with paged.lock:
        paged.events.open(reader)
    swap_out(paged, file, 0, 1)
    for own in (True, False):
        paged.paging.read(file.ino, PAGE_SIZE, PAGE_SIZE, FakeReceiver(), own=own)
    with paged.lock:
        paged.events.close(reader)
    swap_out(paged, file, 2, 2)
    told = [VmEvent.parse(line) for line in reader.take(1 << 20).decode().splitlines()]
    assert [(event.event, event.inode, event.offset, event.pages) for event in told] == [
        ("swapout", file.ino, 0, 2),
        ("fault", file.ino, PAGE_SIZE, 1),
    ]


def test_a_page_that_cannot_be_read_is_eio(
    paged: Paged, file: Inode, store: GatedStore, caplog: pytest.LogCaptureFixture
) -> None:
    paged.write(file.ino, 0, page("a"))
    swap_out(paged, file)
    store.fail_reads = True
    calls: list[Callable[[], object]] = [
        lambda: paged.read(file.ino, 0, PAGE_SIZE),
        lambda: paged.write(file.ino, 1, b"x"),
    ]
    for call in calls:
        assert call() == "EIO"
        assert len(caplog.records) == 1, "it is told once"
        assert "unreadable on swap: page 0" in caplog.text
        assert caplog.records[0].exc_info is None
    with pytest.raises(AnonfsError) as caught:
        paged.sizing.truncate_waiting(file, 10)
    assert caught.value.errno == errno.EIO
    assert (file.size, states_of(file, 1)) == (PAGE_SIZE, "s")
    assert paged.write(file.ino, 0, page("b")) == PAGE_SIZE, "a whole page needs nothing of it"


@pytest.mark.parametrize("failed", [False, True])
def test_a_read_that_was_held_back_looks_again(
    paged: Paged, dear: Inode, monkeypatch: pytest.MonkeyPatch, failed: bool
) -> None:
    _patience(monkeypatch, 1000.0)
    reading = in_thread(paged.read, dear.ino, 1500 * PAGE_SIZE, 2 * PAGE_SIZE)
    soon(lambda: _held(paged) == 1)
    with paged.lock:
        assert paged.sizing.truncate(dear, 1500 * PAGE_SIZE + 5)
        paged.failing.failed = failed
        _allow(paged, 1000)
        paged.reclaim.room.notify_all()
    assert reading() == ("EIO" if failed else bytes(5))
    assert paged.memory.loaded.pages == 600 + (not failed)
