"""Cuts: the rest of a page on swap is cleared, because a file ends within the page.

The page is read, cleared from its ``tail`` on, and put where there is room for it, the first of::

    a frame         nothing is written; the slot becomes free
    another slot    the entry names it once it is written; the old slot becomes free
    its own slot    where frames and swap are both full: a truncation must not need room that a
                    full mount does not have

Until the entry is published the old slot has the old bytes, whatever fails. Only in the last case
can a write that fails half-way damage the page, and its checksum tells. A mount that promises space
before it is used never comes to it, and it is not tried on a disk that is failing, nor where copies
of the inode share the slot.

So is a page in core that is shared, where no frame is free for a copy that can be cleared.
"""

import errno
from typing import TYPE_CHECKING

import numpy as np

from anonfs.errors import AnonfsError
from anonfs.mm._entry import Entries, PageState, numbers, on_swap, states
from anonfs.mm._swap_in import SwapIn
from anonfs.swap import Transfer, aligned_pages, checksums

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo
    from anonfs.mm._memory import Memory

__all__ = ["PageCut"]

_FIRST = np.zeros(1, np.int64)


class PageCut:
    """Clears the bytes from ``tail`` on of a ``page`` of ``info`` that exists. See `Work`.

    ``entry`` is the page's: before it is finished the old one, then the new one. ``slots`` are
    those it has allocated and not published; ``in_place`` if it has to do with the page's own.
    """

    def __init__(self, memory: "Memory", info: "AnonInodeInfo", page: int, tail: int) -> None:
        self._memory = memory
        self.info = info
        self._page = page
        self._tail = tail
        self._data = aligned_pages(1)
        self._transfer: Transfer | None = None
        entries = info.entries(page, 1).copy()
        self.entry = int(entries[0])
        self._swap_in: SwapIn | None = None
        if states(entries)[0] == PageState.ON_SWAP:
            self._swap_in = SwapIn(memory, info, np.array([page]), entries)
        else:
            self._data[:] = memory.frames.pages[numbers(entries)]
        self._frames = memory.frames.allocate(min(1, memory.frames.free))
        memory.frames.begin_io(self._frames)
        self.slots = memory.swap.allocate(1 - self._frames.size)
        elsewhere = self._frames.size or self.slots.size or memory.shares(info, page)
        self.in_place = self._swap_in is not None and not elsewhere
        memory.cuts.add(self)

    def run(self) -> None:
        """Read the page, clear its tail, and write it unless there is a frame. Raises OSError."""
        if self._swap_in is not None:
            self._swap_in.run(self._data, _FIRST)
        self._data[0, self._tail :] = 0
        if not self._frames.size:
            self._write()

    def _write(self) -> None:
        swap = self._memory.swap
        if swap.failing and not self.slots.size:
            raise AnonfsError(errno.EIO, "swap cannot be written")
        if not self._target.size:
            raise AnonfsError(errno.ENOSPC, "no room for a page that is shared")
        self._transfer = swap.write_from(self._target, self._data.data.cast("B"), _FIRST)
        if self._transfer.error is not None:
            raise self._transfer.error

    def finish(self) -> None:
        """Let the entry name the new place, if it still is what it was.

        Raises AnonfsError: ENOSPC, there are no more leaves; the page stays where it is.
        """
        self._end()
        if int(self.info.entries(self._page, 1)[0]) != self.entry:
            self._memory.swap.release(self.slots)
        elif self._frames.size:
            self._memory.store_page(self.info, self._page, self._data[0])
        else:
            self._publish(on_swap(self._target, checksums(self._data, _FIRST)))

    @property
    def _target(self) -> Entries:
        """The slot that is written, if there is one."""
        return self._swap_in.slots if self._swap_in and self.in_place else self.slots

    def _publish(self, entry: Entries) -> None:
        """Let the entry name the slot that was written."""
        if self.in_place:
            next(self.info.spans(self._page, 1)).entries[:] = entry
        else:
            try:
                self._memory.move_to_swap(self.info, self._page, entry)
            except OSError:
                self._memory.swap.release(self.slots)
                raise
        self.entry = int(entry[0])

    def abandon(self) -> None:
        """Leave the page where it is."""
        self._end()
        failed = self._transfer is not None and bool(self._transfer.failed.any())
        if not failed:
            self._memory.swap.release(self.slots)

    def _end(self) -> None:
        """Let the page and the frame go, and tell swap how the write went."""
        memory = self._memory
        if self._swap_in is not None:
            self._swap_in.end()
        memory.frames.end_io(self._frames)
        memory.cuts.discard(self)
        if self._transfer is not None and self.slots.size:
            memory.swap.settle(self.slots, self._transfer)
