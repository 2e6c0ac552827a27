"""A file system with paging and reclaim, and fakes in the place of the kernel."""

import errno
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from anonfs.mm import Budget, Image, Memory, OnePageRead
from anonfs.swap import AsyncReads, MemoryStore, SwapArea, SwapStore
from anonfs.units import PAGE_SHIFT, PAGE_SIZE
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode
from anonfs.vm import EventLog, ToldOperations
from anonfsd._engine_lock import EngineLock
from anonfsd._front_threads import FrontThreads
from anonfsd._paging import Paging
from anonfsd._reclaim import Reclaim
from anonfsd._sizing import Sizing
from tests.mm.engine import FaultyStore, read

__all__ = [
    "FakeFailing",
    "FakeFiles",
    "FakeReceiver",
    "FakeUnloading",
    "GatedStore",
    "Paged",
    "bytes_of",
    "gated",
    "in_thread",
    "make_late",
    "soon",
]

_SECONDS = 20.0


def soon(holds: Callable[[], bool], what: str = "it did not happen") -> None:
    """Wait, but not for ever, until something ``holds``."""
    deadline = time.monotonic() + _SECONDS
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, what
        pause.wait(0.001)


def in_thread(call: Callable[..., object], *arguments: object) -> Callable[[], Any]:
    """Begin a call in a thread; what is returned waits for its result, or raises its error."""
    results: list[object] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call(*arguments))
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> object:
        thread.join(_SECONDS)
        assert not thread.is_alive(), "a thread is stuck"
        if errors:
            raise errors[0]
        return results[0]

    return result


def make_late(threads: FrontThreads) -> None:
    """The time of all that is submitted to ``threads`` is over, once something is."""
    soon(lambda: bool(threads._running))
    with threads._lock:
        for task in threads._running:
            task.deadline = 0.0
        threads._watched.notify_all()


class GatedStore(FaultyStore):
    """A store whose I/O waits until the gate is opened."""

    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        self.gate = threading.Event()
        self.gate.set()
        self.inside = threading.Semaphore(0)

    def shut(self) -> None:
        """Let I/O wait; `entered` tells of what comes from now on."""
        self.gate.clear()
        while self.inside.acquire(blocking=False):
            pass

    def entered(self) -> None:
        """Wait until a thread is inside."""
        assert self.inside.acquire(timeout=10)

    def _wait(self) -> None:
        self.inside.release()
        assert self.gate.wait(10)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._wait()
        super().read_into(offset, buffer)

    def write_from(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self._wait()
        super().write_from(offset, buffers)


class FakeReceiver:
    """Keeps the answers, and whether it let another thread lead.

    With ``reads`` the page that it is to read meanwhile is kept as well, until it is `ended`.
    """

    def __init__(self, reads: AsyncReads | None = None) -> None:
        self.replies: list[bytes] = []
        self.errors: list[int] = []
        self.on_reply: Callable[[], None] = lambda: None
        self.let = False
        self._reads = reads
        self._begun: list[OnePageRead] = []

    def reply(self, data: bytes | memoryview) -> None:
        self.replies.append(bytes(data))
        self.on_reply()

    def reply_error(self, error: int) -> None:
        self.errors.append(error)

    def let_lead(self) -> None:
        self.let = True

    def later(self) -> "FakeReceiver":
        return self

    def begin(self, read: OnePageRead) -> bool:
        if self._reads is None or read.begin(self._reads) is None:
            return False
        self._reads.submit()
        self._begun.append(read)
        return True

    def ended(self) -> tuple[OnePageRead, memoryview, OSError | None]:
        """The read that was begun, when it has come."""
        assert self._reads is not None
        assert select.select([self._reads], [], [], _SECONDS)[0], "nothing was read"
        os.eventfd_read(self._reads.fileno())
        (ended,) = self._reads.completed()
        return self._begun.pop(), *ended[1:]


class FakeFailing:
    """Counts failures."""

    def __init__(self) -> None:
        self.failed = False
        self.failures = 0

    def fail(self) -> None:
        self.failed = True
        self.failures += 1


class FakeFiles:
    """Files of the daemon's own: each `FakeUnloading.drop` opens some."""

    def __init__(self) -> None:
        self.any_open = False
        self.forgotten: list[int] = []
        self.closings = 0

    def forget(self, ino: int) -> bool:
        self.forgotten.append(ino)
        return True

    def close_idle(self, seconds: float) -> None:
        del seconds
        self.any_open = False
        self.closings += 1


class FakeUnloading:
    """Writes dirty pages back, as the kernel would, and counts what it drops.

    ``dirty`` are pages by (inode number, page), with what they hold; ``error`` is raised in place
    of any of it. While the ``gate`` is shut a drop waits. ``before`` a drop and ``after`` all was
    written back others may do something.
    """

    def __init__(self, files: FakeFiles) -> None:
        self.dirty: dict[tuple[int, int], bytes] = {}
        self.dropped: list[tuple[int, list[tuple[int, int]]]] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.forgotten: list[int] = []
        self.settled: list[int] = []
        self.paging: Paging | None = None
        self.before: Callable[[int, list[tuple[int, int]]], None] = lambda _ino, _runs: None
        self.after: Callable[[int], None] = lambda _ino: None
        self.is_root = True
        self._files = files

    def drop(self, ino: int, runs: list[tuple[int, int]], _upcoming: list[tuple[int, int]]) -> None:
        self.entered.release()
        assert self.gate.wait(_SECONDS)
        if self.error is not None:
            raise self.error
        self._files.any_open = True
        self.before(ino, runs)
        for first, count in runs:
            self._write_back(ino, first, count)
        self.dropped.append((ino, runs))

    def write_back(self, ino: int) -> bool:
        self._write_back(ino, 0, 1 << 40)
        self.after(ino)
        return self.is_root

    def settle(self, ino: int) -> None:
        self.settled.append(ino)

    def forget_attributes(self, ino: int) -> None:
        self.forgotten.append(ino)

    def _write_back(self, ino: int, first: int, count: int) -> None:
        """A WRITE of each dirty page of a range."""
        for key in sorted(key for key in self.dirty if key[0] == ino):
            if first <= key[1] < first + count:
                assert self.paging is not None
                data = memoryview(self.dirty.pop(key))
                assert (
                    self.paging.write(ino, key[1] << PAGE_SHIFT, data, FakeReceiver(), back=True)
                    == 0
                )


class FakeInodeLock:
    """No other lock is in the way."""

    @staticmethod
    def held(_ino: int) -> AbstractContextManager[None]:
        return nullcontext()


class Paged:
    """A file system of ``frames`` and ``slots`` whose mount may cost ``budget`` pages."""

    def __init__(
        self,
        frames: int = 64,
        slots: int = 1024,
        budget: int | None = None,
        store: SwapStore | None = None,
        *,
        overcommit: bool = False,
    ) -> None:
        self.image = Image(frames)
        self.memory = Memory(self.image, SwapArea(store or MemoryStore(slots)))
        root = NewInode(stat.S_IFDIR | 0o755, 0, 0)
        self.filesystem = FileSystem(self.image, self.memory, root, overcommit=overcommit)
        self.lock = EngineLock()
        self.budget = Budget(budget or 1 << 20, self.memory.frames, self.memory.loaded)
        self.files = FakeFiles()
        self.unloading = FakeUnloading(self.files)
        self.failing = FakeFailing()
        self.events = EventLog(lambda inode: str(inode.ino))
        told = ToldOperations(self.events)
        neighbours: Any = (self.unloading, self.files, FakeInodeLock(), self.failing, told)
        self.reclaim = Reclaim(self.filesystem, self.lock, self.budget, *neighbours)
        self.read_ahead: list[tuple[int, int, int]] = []
        self.paging = Paging(
            self.filesystem,
            self.lock,
            self.budget,
            self.reclaim,
            self.failing,
            lambda ino, first, count: self.read_ahead.append((ino, first, count)),
            told,
            FrontThreads(),
        )
        self.sizing = Sizing(self.filesystem, self.lock, self.paging, self.failing)
        self.unloading.paging = self.paging

    def file(self, name: bytes = b"f", pages: int = 0) -> Inode:
        """A new file of so many pages, all of them holes."""
        inode = self.filesystem.make(ROOT, name, NewInode(stat.S_IFREG | 0o644, 0, 0))
        self.filesystem.truncate(inode, pages * PAGE_SIZE)
        return inode

    def read(self, ino: int, offset: int, size: int, receiver: FakeReceiver | None = None) -> Any:
        """What a READ is answered with, or the name of an errno."""
        receiver = receiver or FakeReceiver()
        error = self.paging.read(ino, offset, size, receiver, own=False)
        if error:
            assert not receiver.replies
            return errno.errorcode[error]
        (reply,) = receiver.replies
        return reply

    def write(
        self, ino: int, offset: int, data: bytes, receiver: FakeReceiver | None = None
    ) -> Any:
        """The bytes that a WRITE took, or the name of an errno."""
        error = self.paging.write(
            ino, offset, memoryview(data), receiver or FakeReceiver(), back=False
        )
        return errno.errorcode[error] if error else len(data)

    def check(self) -> None:
        """Recount all there is."""
        with self.lock:
            self.filesystem.check_invariants()
            self.memory.check_invariants()

    def close(self) -> None:
        """Give back the image's memory and descriptors."""
        self.image.close()


@contextmanager
def gated(store: GatedStore) -> Iterator[Paged]:
    """A file system of 8 frames that swaps to ``store``, and is sound at the end."""
    paged = Paged(frames=8, store=store)
    yield paged
    store.gate.set()
    paged.check()
    assert paged.failing.failures == 0
    paged.close()


def bytes_of(paged: Paged, file: Inode, offset: int, size: int) -> bytes:
    """What the engine has there."""
    assert file.info is not None
    return read(paged.memory, file.info, offset, size)
