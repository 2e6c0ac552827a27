"""Cuts: the rest of a page on swap is cleared, because a file ends within the page.

The page is read, cleared from its ``tail`` on, and put where there is room for it, the first of::

    a frame         nothing is written; the slot becomes free
    another slot    the entry names it once it is written; the old slot becomes free
    its own slot    where frames and swap are both full: a truncation must not need room that a
                    full mount does not have

Until the entry is published the old slot has the old bytes, whatever fails. Only in the last case
can a write that fails half-way damage the page, and its checksum tells. A mount that promises space
before it is used never comes to it, and it is not tried on a disk that is failing.
"""

import errno
from typing import TYPE_CHECKING

import numpy as np

from anonfs.errors import AnonfsError
from anonfs.mm._entry import on_swap
from anonfs.mm._swap_in import SwapIn
from anonfs.swap import Transfer, aligned_pages, checksums

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo
    from anonfs.mm._memory import Memory

__all__ = ["PageCut"]

_FIRST = np.zeros(1, np.int64)


class PageCut:
    """Clears the bytes from ``tail`` on of a ``page`` on swap. See `Work`.

    ``entry`` is the page's: before it is finished the old one, then the new one. ``slots`` are
    those it has allocated and not published.
    """

    def __init__(self, memory: "Memory", info: "AnonInodeInfo", page: int, tail: int) -> None:
        self._memory = memory
        self._info = info
        self._page = page
        self._tail = tail
        self._data = aligned_pages(1)
        self._transfer: Transfer | None = None
        entries = info.entries(page, 1).copy()
        self.entry = int(entries[0])
        self._swap_in = SwapIn(memory, info, np.array([page]), entries)
        self._frames = memory.frames.allocate(min(1, memory.frames.free))
        memory.frames.begin_io(self._frames)
        self.slots = memory.swap.allocate(1 - self._frames.size)
        memory.cuts.add(self)

    def run(self) -> None:
        """Read the page, clear its tail, and write it unless there is a frame. Raises OSError."""
        self._swap_in.run(self._data, _FIRST)
        self._data[0, self._tail :] = 0
        if not self._frames.size:
            self._write()

    def _write(self) -> None:
        swap, target = self._memory.swap, self.slots
        if not target.size:
            if swap.failing:
                raise AnonfsError(errno.EIO, "swap cannot be written")
            target = self._swap_in.slots
        self._transfer = swap.write_from(target, self._data.data.cast("B"), _FIRST)
        if self._transfer.error is not None:
            raise self._transfer.error

    def finish(self) -> None:
        """Let the entry name the new place, if it still is what it was."""
        self._end()
        if int(self._info.entries(self._page, 1)[0]) != self.entry:
            self._memory.swap.release(self.slots)
        elif self._frames.size:
            self._memory.store_page(self._info, self._page, self._data[0])
        else:
            self._publish()

    def _publish(self) -> None:
        """Let the entry name the slot that was written."""
        span = next(self._info.spans(self._page, 1))
        sums = checksums(self._data, _FIRST)
        if self.slots.size:
            span.entries[:] = on_swap(self.slots, sums)
            self._memory.swap.release(self._swap_in.slots)
        else:
            span.entries[:] = on_swap(self._swap_in.slots, sums)
        self.entry = int(span.entries[0])

    def abandon(self) -> None:
        """Leave the page where it is."""
        self._end()
        failed = self._transfer is not None and bool(self._transfer.failed.any())
        if not failed:
            self._memory.swap.release(self.slots)

    def _end(self) -> None:
        """Let the page and the frame go, and tell swap how the write went."""
        memory = self._memory
        self._swap_in.end()
        memory.frames.end_io(self._frames)
        memory.cuts.discard(self)
        if self._transfer is not None and self.slots.size:
            memory.swap.settle(self.slots, self._transfer)
