"""What the memory of a mount costs, gathered from those who know."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from anonfs.errors import AnonfsError
from anonfs.meminfo import Counters, MemInfo, SwapUsage
from anonfs.units import PAGE_SHIFT
from anonfs.vfs import FileSystem, Inode
from anonfs.vm import ShareRing
from anonfsd._rings import Rings

__all__ = ["MemStats"]


@dataclass(slots=True)
class MemStats:
    """The numbers of the mount of ``filesystem``.

    Attributes:
        budget: what it may cost, in bytes.
        rings: who maps its files.
        swap_path: the name that its swap area has, if any.
    """

    filesystem: FileSystem
    budget: int
    rings: Rings
    swap_path: str | None = None

    def now(self) -> MemInfo:
        """All that is known without waiting: not who maps what, nor what is dirty."""
        memory = self.filesystem.memory
        frames, used, pages = memory.frames.resident, memory.frames.used, memory.loaded.pages
        return MemInfo(
            budget=self.budget,
            frames=frames << PAGE_SHIFT,
            frames_used=used << PAGE_SHIFT,
            frames_free=(frames - used) << PAGE_SHIFT,
            loaded=pages << PAGE_SHIFT,
            cost=(frames + pages) << PAGE_SHIFT,
            swap_total=memory.swap.slots << PAGE_SHIFT,
            swap_free=memory.swap.free << PAGE_SHIFT,
            swap_cached=memory.loaded.on_swap << PAGE_SHIFT,
            swap_retired=memory.swap.retired << PAGE_SHIFT,
            promised=memory.promises.made << PAGE_SHIFT,
            promisable=memory.promises.free << PAGE_SHIFT,
            locked=memory.promises.locked << PAGE_SHIFT,
            lockable=memory.promises.lockable << PAGE_SHIFT,
            inodes=len(self.filesystem.inodes),
            counters=self._counters(),
        )

    def _counters(self) -> Counters:
        memory = self.filesystem.memory
        counted, loaded, swap = memory.counters, memory.loaded, memory.swap
        return Counters(
            zero_pages=counted.zero_pages,
            fault_requests=counted.fault_requests,
            fault_pages=counted.fault_in_core + counted.fault_on_swap + counted.fault_none,
            fault_in_core=counted.fault_in_core,
            fault_on_swap=counted.fault_on_swap,
            fault_none=counted.fault_none,
            writeback_requests=counted.writeback_requests,
            writeback_pages=counted.writeback_pages,
            reclaim_scanned=loaded.scanned,
            reclaim_unloaded=loaded.unloaded,
            reclaim_refaulted=loaded.refaulted,
            reclaim_throttled=counted.throttled,
            swap_in=counted.swapped_in,
            swap_out=counted.swapped_out,
            swap_write_errors=swap.write_errors,
            swap_read_errors=swap.read_errors,
            swap_checksum_errors=swap.checksum_errors,
        )

    async def look(self) -> MemInfo:
        """What `now` says and who maps what; what cannot be found out in time is left out."""
        try:
            await self.rings.look()
            # Only root sees all processes: the sum over some of them would be no answer.
            dirty = await self.rings.dirty_bytes() if os.geteuid() == 0 else None
        except AnonfsError:
            return self.now()
        areas = sum(map(_areas, self.filesystem.inodes.values()))
        return replace(self.now(), areas=areas, dirty=dirty)

    def swaps(self) -> Sequence[SwapUsage]:
        """The swap areas."""
        swap = self.filesystem.memory.swap
        errors = swap.write_errors + swap.read_errors + swap.checksum_errors
        sizes = swap.slots << PAGE_SHIFT, swap.used << PAGE_SHIFT, swap.retired << PAGE_SHIFT
        return [SwapUsage(self.swap_path, "file", *sizes, errors)]


def _areas(inode: Inode) -> int:
    return 0 if inode.share_ring.empty else len(ShareRing(inode))
