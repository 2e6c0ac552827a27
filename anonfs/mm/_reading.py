"""Reading: the bytes of pages, wherever they are, at once where they are in core.

A READ changes no entry, and takes neither frame nor slot: what it brings is for the page cache of
the kernel. So most of them are answered from the arena itself, without a copy.
"""

from typing import TYPE_CHECKING

import numpy as np

from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._entry import Entries, PageState, first_of_run, numbers, slot_and_sum, states
from anonfs.mm._fault import OnePageRead, PageRead, SwapRead
from anonfs.swap import aligned_pages
from anonfs.units import PAGE_SHIFT, PAGE_SIZE, pages_for

if TYPE_CHECKING:
    from anonfs.mm._memory import Memory

__all__ = ["Reading"]

_SCRATCH_PAGES = 32
"""Pages of a front that are copied with the lock held: to give it up would take longer."""

_ZEROS = memoryview(bytes(1 << 20))


class Reading:
    """Begins reads of pages of ``memory``."""

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._scratch = aligned_pages(_SCRATCH_PAGES)

    def begin(self, info: AnonInodeInfo, offset: int, size: int) -> memoryview | SwapRead:
        """``size`` bytes at ``offset``, or the work that gets them where pages are on swap.

        Holes read as zeros, or as the front, and take nothing. The view may be of the arena itself,
        or of memory that is used again: use it before the next call.
        """
        memory = self._memory
        first = offset >> PAGE_SHIFT
        entries = info.entries(first, pages_for(offset + size) - first)
        head = offset & (PAGE_SIZE - 1)
        memory.counters.fault_requests += 1
        frame = first_of_run(entries)
        if frame:
            memory.counters.fault_in_core += entries.size
            memory.frames.note_use_of_run(frame, entries.size)
            start = (frame << PAGE_SHIFT) + head
            return memory.frames.view[start : start + size]
        slot, checksum = slot_and_sum(int(entries[0])) if entries.size == 1 else (0, 0)
        if slot:
            memory.counters.fault_on_swap += 1
            return OnePageRead(memory, info, first, (slot, checksum), slice(head, head + size))
        if first < info.front_pages and info.shows_front(first, entries).any():
            return self._front(info, first, entries, slice(head, head + size))
        if not entries.any():
            memory.counters.fault_none += entries.size
            return _ZEROS[:size] if size <= len(_ZEROS) else memoryview(bytes(size))
        if self._count_faults(entries):
            return PageRead(memory, info, first, entries, slice(head, head + size))
        frames = numbers(entries)
        memory.frames.note_use(frames)
        return memory.frames.pages.take(frames, axis=0).data.cast("B")[head : head + size]

    def _front(
        self, info: AnonInodeInfo, first: int, entries: Entries, inside: slice
    ) -> memoryview | PageRead:
        """The bytes of pages of which some show the front: of few at once, where it has them."""
        memory = self._memory
        if not self._count_faults(entries) and entries.size <= len(self._scratch):
            read = PageRead(memory, info, first, entries, inside, self._scratch[: entries.size])
            if read.run_at_once():
                read.finish()
                return read.data
            read.abandon()
            return PageRead(memory, info, first, entries, inside, has_to_wait=True)
        return PageRead(memory, info, first, entries, inside)

    def _count_faults(self, entries: Entries) -> int:
        """Count what was found of ``entries``; returns how many are on swap."""
        counters, kinds = self._memory.counters, states(entries)
        held = int(np.count_nonzero(kinds == PageState.IN_CORE))
        on_swap = int(np.count_nonzero(kinds == PageState.ON_SWAP))
        counters.fault_in_core += held
        counters.fault_on_swap += on_swap
        counters.fault_none += entries.size - held - on_swap
        return on_swap
