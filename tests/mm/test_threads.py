"""Several threads with one lock, which they hold for all but the I/O, as a daemon's do."""

import errno
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo, Memory, SwapRead, Work, cutting
from anonfs.mm.sync import work_before_write
from anonfs.units import PAGE_SIZE
from tests.mm.engine import FaultyStore, engine, inode

_PAGES = 40
_THREADS = 4
_OPERATIONS = 250
_LATENCY = 0.0002


class SlowStore(FaultyStore):
    """A store that others get at the engine meanwhile, as with a disk."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        time.sleep(_LATENCY)
        super().read_into(offset, buffer)
        time.sleep(_LATENCY)

    def write_from(self, offset: int, buffers: Sequence[memoryview]) -> None:
        time.sleep(_LATENCY)
        super().write_from(offset, buffers)
        time.sleep(_LATENCY)


class Worker:
    """Reads, writes, cuts and punches one inode, and evicts pages of all."""

    def __init__(self, memory: Memory, lock: threading.Condition, ino: int) -> None:
        self._memory = memory
        self._lock = lock
        self._dice = random.Random(ino)
        self._info: AnonInodeInfo = inode(memory, ino)
        self._model = bytearray(_PAGES * PAGE_SIZE)

    def __call__(self) -> None:
        actions = [self._write, self._write, self._read, self._cut, self._punch, self._evict]
        for _ in range(_OPERATIONS):
            with self._lock:
                self._dice.choice(actions)()
        with self._lock:
            self._compare(0, len(self._model))

    def _range(self) -> tuple[int, int]:
        dice = self._dice
        size = dice.choice([PAGE_SIZE, 7 * PAGE_SIZE, dice.randint(1, 9 * PAGE_SIZE)])
        offset = dice.randrange(len(self._model) - size)
        return (offset & -PAGE_SIZE if dice.random() < 0.7 else offset), size

    def _perform(self, work: Work) -> None:
        self._lock.release()
        try:
            work.run()
        finally:
            self._lock.acquire()
        work.finish()
        self._lock.notify_all()

    def _patiently(self, begin: Callable[[], Work | None]) -> Work | None:
        while True:
            try:
                return begin()
            except AnonfsError as error:
                if error.errno != errno.EAGAIN:
                    raise
                assert self._lock.wait(10)

    def _write(self) -> None:
        (offset, size), memory = self._range(), self._memory
        data = self._dice.randbytes(16) * (size // 16 + 1)
        data = data[:size] if self._dice.random() < 0.9 else bytes(size)

        def begin() -> Work | None:
            return work_before_write(memory, self._info, [(offset, size)])

        while (work := self._patiently(begin)) is not None:
            self._perform(work)
        memory.write(self._info, offset, data)
        self._model[offset : offset + size] = data

    def _read(self) -> None:
        self._compare(*self._range())

    def _compare(self, offset: int, size: int) -> None:
        found = self._memory.reading.begin(self._info, offset, size)
        if isinstance(found, SwapRead):
            self._perform(found)
            found = found.data
        assert found == self._model[offset : offset + size]

    def _cut(self) -> None:
        size, _ = self._range()
        cut = cutting.work_before_truncate(self._memory, self._info, size)
        if cut is not None:
            self._perform(cut)
        cutting.truncate(self._memory, self._info, size, cut)
        self._model[size:] = bytes(len(self._model) - size)

    def _punch(self) -> None:
        (offset, size), memory = self._range(), self._memory

        def begin() -> Work | None:
            return work_before_write(memory, self._info, cutting.edges(offset, size))

        while (work := self._patiently(begin)) is not None:
            self._perform(work)
        cutting.punch(memory, self._info, offset, size)
        self._model[offset : offset + size] = bytes(size)

    def _evict(self) -> None:
        eviction = self._memory.work_to_evict(self._dice.randint(1, 16))
        if eviction is not None:
            self._perform(eviction)
        self._memory.frames.trim(self._dice.choice([0, 0, 4]))


def test_threads_that_share_all_but_their_inodes_see_their_own_bytes() -> None:
    store = SlowStore(_THREADS * _PAGES)
    store.bad_writes = {3, 4, 5, 60}
    with engine(frames=32, store=store) as memory:
        lock = threading.Condition()
        workers = [Worker(memory, lock, number + 1) for number in range(_THREADS)]
        with ThreadPoolExecutor(_THREADS) as pool:
            for ended in [pool.submit(worker) for worker in workers]:
                ended.result(timeout=60)
        assert memory.swap.retired <= 4
        assert memory.counters.swapped_out
