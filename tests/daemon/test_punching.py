"""Holes, with the kernel's part played: what it writes back, and when it has no page of before."""

import errno
import threading
from collections.abc import Iterator

import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo, Parts
from anonfs.units import PAGE_SIZE
from anonfs.vfs import Inode, overlay
from anonfsd._front_threads import FrontThreads
from anonfsd._paging import Receiver
from anonfsd._putting_off import AtFront
from anonfsd._reclaim import Reclaim
from tests.daemon.paged import FakeReceiver, Paged, make_late, soon
from tests.daemon.test_putting_off import SlowStore
from tests.mm.engine import page

_PUNCH_HOLE, _ZERO_RANGE = 1 | 2, 16
_PAGES = 8


@pytest.fixture
def paged() -> Iterator[Paged]:
    made = Paged(frames=2048, slots=4096)
    yield made
    made.check()
    made.close()


@pytest.fixture
def file(paged: Paged) -> Inode:
    inode = paged.file(pages=_PAGES)
    paged.write(inode.ino, 0, b"x" * _PAGES * PAGE_SIZE)
    return inode


def _punch(
    paged: Paged, file: Inode, offset: int, size: int, mode: int = _PUNCH_HOLE
) -> FakeReceiver:
    receiver = FakeReceiver()
    assert paged.sizing.allocate(file.ino, offset, size, mode, receiver) == 0
    return receiver


def _answer(receiver: FakeReceiver) -> int:
    """The errno that it is answered with."""
    soon(lambda: bool(receiver.replies or receiver.errors))
    return receiver.errors[0] if receiver.errors else 0


def test_the_answer_waits_until_no_page_of_before_is_left(paged: Paged, file: Inode) -> None:
    paged.unloading.gate.clear()
    receiver = _punch(paged, file, PAGE_SIZE + 9, 3 * PAGE_SIZE)
    assert paged.unloading.entered.acquire(timeout=10)
    assert not receiver.replies
    assert paged.read(file.ino, 2 * PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)
    # Stored to when it was not yet dropped: what lies outside of the hole stays.
    old = b"y" * PAGE_SIZE
    for number in (1, 3, 4, 5):
        paged.unloading.dirty[file.ino, number] = old
    paged.unloading.gate.set()
    assert _answer(receiver) == 0
    assert paged.unloading.dropped == [(file.ino, [(1, 4)])]
    assert file.allocated == _PAGES - 2
    found = paged.read(file.ino, 0, _PAGES * PAGE_SIZE)
    assert found[PAGE_SIZE : 2 * PAGE_SIZE] == b"y" * 9 + bytes(PAGE_SIZE - 9)
    assert found[2 * PAGE_SIZE : 4 * PAGE_SIZE] == bytes(2 * PAGE_SIZE)
    assert found[4 * PAGE_SIZE :][:PAGE_SIZE] == bytes(9) + b"y" * (PAGE_SIZE - 9)
    assert paged.unloading.dirty == {(file.ino, 5): old}
    paged.write(file.ino, 2 * PAGE_SIZE, page("n"))
    assert paged.read(file.ino, 2 * PAGE_SIZE, PAGE_SIZE) == page("n")


def test_a_write_back_that_fails_is_the_answer(paged: Paged, file: Inode) -> None:
    paged.unloading.error = AnonfsError(errno.ENOSPC)
    assert _answer(_punch(paged, file, 0, PAGE_SIZE)) == errno.ENOSPC
    paged.unloading.error = None
    paged.write(file.ino, 0, page("n"))
    assert paged.read(file.ino, 0, PAGE_SIZE) == page("n"), "no hole is being made any more"
    assert _answer(_punch(paged, file, 0, PAGE_SIZE)) == 0


def test_a_range_of_zeros_makes_a_file_larger_or_nothing(paged: Paged, file: Inode) -> None:
    end = _PAGES * PAGE_SIZE
    assert _answer(_punch(paged, file, end - 1, 5, _ZERO_RANGE)) == 0
    assert file.size == end + 4
    assert paged.read(file.ino, end - 2, 9) == b"x" + bytes(5)
    receiver = FakeReceiver()
    error = paged.sizing.allocate(file.ino, 0, 1 << 40, _ZERO_RANGE, receiver)
    assert error == errno.ENOSPC, "at once, so that it can wait for room"
    assert not receiver.errors
    assert file.size == end + 4
    assert paged.read(file.ino, 0, 2) == b"xx", "nothing was changed"


def test_what_is_around_a_hole_comes_from_the_front_first(
    paged: Paged, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = FrontThreads(seconds=1000.0)
    monkeypatch.setattr(paged.paging._putting_off, "_threads", threads)
    store, over = SlowStore(), paged.file(b"over")
    with paged.lock:
        overlay(paged.filesystem, over, store, _PAGES * PAGE_SIZE)
    slow = _punch(paged, over, PAGE_SIZE - 1, PAGE_SIZE + 2)
    other = paged.file(b"other", pages=1)
    assert _answer(_punch(paged, other, 1, 5)) == 0, "others do not wait"
    assert not slow.replies
    store.gate.set()
    assert _answer(slow) == 0
    assert over.allocated == 2
    assert paged.read(over.ino, PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)
    store.gate.clear()
    soon(lambda: not threads._running)
    late = _punch(paged, over, 5 * PAGE_SIZE + 1, 5)
    make_late(threads)
    assert _answer(late) == errno.EIO
    store.gate.set()
    soon(lambda: not threads._domains[store.domain].stuck)
    with paged.lock:
        paged.filesystem.unlink(1, b"over")


def test_what_is_on_swap_or_locked(paged: Paged, file: Inode) -> None:
    with paged.lock:
        paged.filesystem.promising.lock(file)
    assert _answer(_punch(paged, file, 5, 2 * PAGE_SIZE)) == 0
    with paged.lock:
        paged.filesystem.promising.unlock(file)
    paged.reclaim.swap_out(file, 0, _PAGES - 1)
    assert file.info is not None
    assert (file.info.in_core, file.info.on_swap) == (0, _PAGES - 1)
    assert _answer(_punch(paged, file, 3 * PAGE_SIZE + 5, 3 * PAGE_SIZE)) == 0
    assert (file.info.in_core, file.info.on_swap) == (2, _PAGES - 5)
    found = paged.read(file.ino, 0, _PAGES * PAGE_SIZE, FakeReceiver())
    expected = bytearray(b"x" * _PAGES * PAGE_SIZE)
    expected[5 : 5 + 2 * PAGE_SIZE] = bytes(2 * PAGE_SIZE)
    expected[3 * PAGE_SIZE + 5 :][: 3 * PAGE_SIZE] = bytes(3 * PAGE_SIZE)
    expected[3 * PAGE_SIZE + 5 : 6 * PAGE_SIZE + 5] = bytes(3 * PAGE_SIZE)
    assert found == expected


def test_what_was_promised_for_a_hole_is_given_back() -> None:
    paged = Paged(overcommit=True)
    file = paged.file(pages=_PAGES)
    paged.write(file.ino, 0, b"x" * _PAGES * PAGE_SIZE)
    assert file.promised == _PAGES
    assert _answer(_punch(paged, file, 0, 5 * PAGE_SIZE)) == 0
    soon(lambda: file.promised == _PAGES - 5)
    paged.check()
    paged.close()


def test_nothing_is_made_once_it_was_said_to_have_failed(
    paged: Paged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front comes in time, but then there is no room for what came until it is too late."""
    store, over, other = SlowStore(), paged.file(b"over"), paged.file(b"other", pages=1)
    store.gate.set()
    with paged.lock:
        overlay(paged.filesystem, over, store, _PAGES * PAGE_SIZE)
    threads = FrontThreads(seconds=1000.0)
    monkeypatch.setattr(paged.paging._putting_off, "_threads", threads)
    prepare, prepared = paged.paging._prepare, threading.Event()

    def slowly(info: AnonInodeInfo, parts: Parts, thread: Receiver) -> None:
        prepare(info, parts, thread)
        prepared.set()
        while isinstance(thread, AtFront) and not thread.expired:
            paged.reclaim.room.wait(0.01)

    monkeypatch.setattr(paged.paging.punching, "_prepare", slowly)
    late = _punch(paged, over, PAGE_SIZE + 1, 5)
    assert prepared.wait(10)
    make_late(threads)
    assert _answer(late) == errno.EIO
    soon(lambda: not threads._domains[store.domain].stuck)
    assert _answer(_punch(paged, other, 0, PAGE_SIZE)) == 0, "all that was wanted before is made"
    assert paged.read(over.ino, PAGE_SIZE, PAGE_SIZE) == page("B"), "and this was not"
    with paged.lock:
        paged.filesystem.unlink(1, b"over")


def test_a_hole_does_not_wait_for_reclaim_that_is_behind(
    paged: Paged, file: Inode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reclaim, "is_behind", property(lambda _: True))
    assert _answer(_punch(paged, file, 5, 3 * PAGE_SIZE)) == 0
    assert paged.memory.counters.throttled == 0
