"""What waits for a front is put off: others are answered meanwhile, and nothing waits for ever."""

import errno
import threading
from collections.abc import Callable, Iterator

import pytest

from anonfs.units import PAGE_SIZE
from anonfs.vfs import Inode, overlay
from anonfsd._front_threads import FrontThreads
from tests.daemon.paged import FakeReceiver, Paged, make_late, soon

_PAGES = 40
_DATA = b"".join(bytes([65 + page]) * PAGE_SIZE for page in range(_PAGES))


class SlowStore:
    """A front that answers when its ``gate`` is open, or at once if it is ``in_memory``.

    ``on_read`` is called at each attempt to read it at once.
    """

    domain = 7

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.closed = False
        self.in_memory = False
        self.on_read: Callable[[], None] = lambda: None

    def read_into(self, buffer: memoryview, offset: int) -> int:
        assert self.gate.wait(10)
        found = _DATA[offset : offset + len(buffer)]
        buffer[: len(found)] = found
        return len(found)

    def read_at_once(self, buffer: memoryview, offset: int) -> int:
        self.on_read()
        if not self.in_memory:
            raise BlockingIOError(errno.EAGAIN, "not in memory")
        self.gate.set()
        return self.read_into(buffer, offset)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def paged() -> Iterator[Paged]:
    made = Paged(slots=4096)
    yield made
    made.check()
    made.close()


@pytest.fixture
def over(paged: Paged, store: SlowStore) -> Inode:
    inode = paged.file(b"over")
    with paged.lock:
        overlay(paged.filesystem, inode, store, len(_DATA))
    return inode


def _read(paged: Paged, inode: Inode, page: int, count: int = 1) -> FakeReceiver:
    receiver = FakeReceiver()
    offset, size = page * PAGE_SIZE, count * PAGE_SIZE
    error = paged.paging.read(inode.ino, offset, size, receiver, own=False)
    assert error == 0
    return receiver


def _write(paged: Paged, inode: Inode, offset: int, data: bytes) -> FakeReceiver:
    receiver = FakeReceiver()
    assert paged.paging.write(inode.ino, offset, memoryview(data), receiver, back=False) == 0
    return receiver


def test_reads_and_writes_are_answered_when_the_front_has(
    paged: Paged, over: Inode, store: SlowStore
) -> None:
    read, write = _read(paged, over, 3), _write(paged, over, PAGE_SIZE + 1, b"xy")
    whole = _write(paged, over, 2 * PAGE_SIZE, bytes(PAGE_SIZE))  # needs nothing of the front
    assert whole.replies
    assert not any([read.replies, write.replies, read.let, write.let])
    with paged.lock:
        assert paged.memory.loaded.begin(100) is None, "the hand is kept away"
    store.gate.set()
    soon(lambda: bool(read.replies and write.replies))
    assert read.replies == [b"D" * PAGE_SIZE]
    again = _read(paged, over, 1)
    soon(lambda: bool(again.replies))
    assert again.replies[0][:4] == b"BxyB"


def test_what_is_late_is_an_error_and_changes_nothing_after_that(
    paged: Paged, over: Inode, store: SlowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = FrontThreads(seconds=1000.0)
    monkeypatch.setattr(paged.paging._putting_off, "_threads", threads)
    read, write = _read(paged, over, 3), _write(paged, over, PAGE_SIZE + 1, b"xy")
    make_late(threads)
    soon(lambda: bool(read.errors and write.errors))
    assert read.errors == write.errors == [errno.EIO]
    store.gate.set()
    soon(lambda: not threads._domains[7].stuck)
    again = _read(paged, over, 1)
    soon(lambda: bool(again.replies))
    assert again.replies == [b"B" * PAGE_SIZE]
    with paged.lock:
        paged.filesystem.unlink(1, b"over")
    assert store.closed


def test_much_is_read_at_once_while_others_go_on(
    paged: Paged, over: Inode, store: SlowStore
) -> None:
    held = []

    def note() -> None:
        if threading.current_thread() is threading.main_thread():
            held.append(paged.lock._lock.locked())

    store.on_read = note
    waiting = [_read(paged, over, 0, count) for count in (_PAGES, 1)]
    assert not any(read.replies for read in waiting)
    store.in_memory = True
    much, little = _read(paged, over, 0, _PAGES), _read(paged, over, 0)
    assert (much.replies, little.replies) == ([_DATA], [_DATA[:PAGE_SIZE]])
    assert held == [False, True, False, True]
    assert [read.let for read in (*waiting, much, little)] == [True, False, True, False]
    soon(lambda: all(read.replies for read in waiting))
    assert [read.replies for read in waiting] == [[_DATA], [_DATA[:PAGE_SIZE]]]
