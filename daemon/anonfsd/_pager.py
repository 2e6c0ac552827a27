"""The pager: engine calls that may have to wait for swap.

Each ``await`` here lets other requests change what was just looked at. So every wait is inside a
loop that looks again, and after the last look the engine call follows with no wait in between.
Evictions hold a lock: one at a time fills the disk's bandwidth, and a second caller most often
finds that the first has made room for both.
"""

import errno
import logging

import trio

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo, Eviction, Memory, PageCut, PageRead, Work

__all__ = ["Pager"]

log = logging.getLogger(__name__)

_SWAP_THREADS = 8


class Pager:
    """Reads, writes and cuts pages of ``memory``, and keeps some of its frames free."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._limiter = trio.CapacityLimiter(_SWAP_THREADS)
        self._evicting = trio.Lock()
        self._short = trio.Event()
        self._low = memory.frames.count // 32
        self._high = memory.frames.count // 16

    @property
    def room(self) -> int:
        """How many more pages frames and swap can take."""
        return self.memory.frames.free + self.memory.swap.free

    async def read(self, info: AnonInodeInfo, offset: int, size: int) -> memoryview:
        """``size`` bytes at ``offset``; use them before the next wait. Raises OSError."""
        found = self.memory.begin_read(info, offset, size)
        if isinstance(found, PageRead):
            await self._perform(found)
            return found.data
        return found

    async def write(self, info: AnonInodeInfo, offset: int, data: bytes) -> None:
        """Store ``data`` at ``offset``. Raises OSError, ENOSPC where nothing can be freed."""
        memory, size = self.memory, len(data)
        while True:
            wanted = memory.frames_wanted(info, offset, size)
            if wanted > memory.frames.free:
                await self._make_room(wanted)
                continue
            load = memory.work_to_complete(info, offset, size)
            if load is None:
                break
            await self._perform(load)
        memory.write(info, offset, data)
        if memory.frames.free < self._low and memory.swap.free:
            self._short.set()

    async def cut(self, info: AnonInodeInfo, size: int) -> PageCut | None:
        """Do what must be done before ``info`` is cut to ``size`` bytes. Raises OSError."""
        cut = self.memory.work_before_truncate(info, size)
        if cut is not None:
            await self._perform(cut)
        return cut

    async def swap_out(self, info: AnonInodeInfo, first: int, last: int) -> None:
        """Write the pages in core from ``first`` to ``last`` to swap. Raises OSError."""
        while first <= last:
            async with self._evicting:
                eviction, beyond = self.memory.work_to_swap_out(info, first, last)
                if eviction is not None:
                    await self._evict(eviction)
                # What could not be written is tried again, in other slots.
                if eviction is None or eviction.error is None:
                    first = beyond

    async def keep_frames_free(self) -> None:
        """Evict in the background, so that a write seldom has to wait for it; runs for ever."""
        while True:
            await self._short.wait()
            self._short = trio.Event()
            try:
                await self._make_room(self._high)
            except OSError as error:
                # A write that needs a frame meets the same error, and has someone to tell it to.
                log.debug("no frames can be freed ahead: %s", error)

    async def _make_room(self, wanted: int) -> None:
        async with self._evicting:
            while (eviction := self.memory.work_for_frames(wanted)) is not None:
                await self._evict(eviction)

    async def _evict(self, eviction: Eviction) -> None:
        await self._perform(eviction)
        if eviction.error is not None:
            log.error("swap I/O failed: %s", eviction.error)

    async def _perform(self, work: Work) -> None:
        try:
            await trio.to_thread.run_sync(work.run, limiter=self._limiter)
        except BaseException as error:
            work.abandon()
            if isinstance(error, OSError):
                log.error("swap I/O failed: %s", error)  # noqa: TRY400
                raise AnonfsError(errno.EIO, "swap") from error
            raise
        work.finish()
