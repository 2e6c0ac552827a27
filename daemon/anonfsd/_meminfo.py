"""What the memory of a mount costs, gathered from those who know.

What the engine does not count itself comes from parts that are put in by whoever makes the mount:
each has a default that says nothing, so that the sums are right without it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from anonfs.errors import AnonfsError
from anonfs.meminfo import Counters, MemInfo, SwapUsage
from anonfs.units import PAGE_SHIFT
from anonfs.vfs import FileSystem, Inode
from anonfs.vm import ShareRing
from anonfsd._rings import Rings

__all__ = ["LoadedPages", "MemStats", "NothingLoaded"]


class LoadedPages(Protocol):
    """What is known of the kernel's page cache of the mount."""

    @property
    def pages(self) -> int:
        """The pages that the kernel holds."""

    @property
    def on_swap(self) -> int:
        """Those of them that are also on swap."""


@dataclass(frozen=True, slots=True)
class NothingLoaded:
    """Nobody keeps count of the page cache."""

    pages: int = 0
    on_swap: int = 0


@dataclass(slots=True)
class MemStats:
    """The numbers of the mount of ``filesystem``.

    Attributes:
        budget: what it may cost, in bytes.
        rings: who maps its files.
        swap_path: the name that its swap area has, if any.
        loaded: the pages that the kernel holds.
        frames: the frames that take memory, by default all of the arena.
        counted: the counters of events, as they are now.
        retired: the slots of the swap area that are not used any more.
        swap_errors: the requests to the swap area that failed.
    """

    filesystem: FileSystem
    budget: int
    rings: Rings
    swap_path: str | None = None
    loaded: LoadedPages = NothingLoaded()
    frames: Callable[[], int] | None = None
    counted: Callable[[], Counters] = Counters
    retired: Callable[[], int] = int
    swap_errors: Callable[[], int] = int

    def now(self) -> MemInfo:
        """All that is known without waiting: not who maps what, nor what is dirty."""
        memory = self.filesystem.memory
        used, free = memory.frames.used, memory.frames.free
        frames = used + free if self.frames is None else self.frames()
        pages, on_swap = self.loaded.pages, self.loaded.on_swap
        return MemInfo(
            budget=self.budget,
            frames=frames << PAGE_SHIFT,
            frames_used=used << PAGE_SHIFT,
            frames_free=free << PAGE_SHIFT,
            loaded=pages << PAGE_SHIFT,
            cost=(frames + pages) << PAGE_SHIFT,
            swap_total=memory.swap.slots << PAGE_SHIFT,
            swap_free=memory.swap.free << PAGE_SHIFT,
            swap_cached=on_swap << PAGE_SHIFT,
            swap_retired=self.retired() << PAGE_SHIFT,
            promised=memory.promises.made << PAGE_SHIFT,
            promisable=memory.promises.free << PAGE_SHIFT,
            inodes=len(self.filesystem.inodes),
            counters=self.counted(),
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
        sizes = swap.slots << PAGE_SHIFT, swap.used << PAGE_SHIFT, self.retired() << PAGE_SHIFT
        return [SwapUsage(self.swap_path, "file", *sizes, self.swap_errors())]


def _areas(inode: Inode) -> int:
    return 0 if inode.share_ring.empty else len(ShareRing(inode))
