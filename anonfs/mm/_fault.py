"""Faults: getting at pages that are on swap.

A `PageRead` answers a READ: the bytes go to the kernel's page cache, the page stays on swap and no
frame is taken, since a READ brings up to a read-ahead window of pages around the one that was
touched. A `PageLoad` brings a page into a frame, because a write is about to change a part of it. A
`PageCut` clears the rest of a page where it is, because a file ends within it: a truncation must
not need room that a full mount does not have.
"""

from typing import TYPE_CHECKING

import numpy as np

from anonfs.mm._entry import Entries, PageState, numbers, states
from anonfs.swap import aligned_pages

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo
    from anonfs.mm._memory import Memory

__all__ = ["PageCut", "PageLoad", "PageRead"]


class PageRead:
    """The bytes of a range of pages of which some are on swap. See `Work`."""

    def __init__(self, memory: "Memory", entries: Entries, head: int, size: int) -> None:
        on_swap = states(entries) == PageState.ON_SWAP
        self._swap = memory.swap
        self._rows = np.flatnonzero(on_swap)
        self._slots = numbers(entries[self._rows])
        # Frame 0 is zeros: a hole and, until its slot was read, a page on swap.
        self._pages = memory.frames.copy(np.where(on_swap, 0, numbers(entries)))
        self._range = slice(head, head + size)
        self._swap.pin(self._slots)

    def run(self) -> None:
        """Read the slots."""
        self._swap.read_into(self._slots, self._pages.data.cast("B"), self._rows)

    def finish(self) -> None:
        """Let the slots go."""
        self._swap.unpin(self._slots)

    abandon = finish

    @property
    def data(self) -> memoryview:
        """The bytes asked for, once finished."""
        return self._pages.data.cast("B")[self._range]


class PageLoad:
    """Brings pages that are on swap into frames. See `Work`.

    A page is left as it is if it went elsewhere meanwhile or if no frame is free: the caller looks
    again and asks again.
    """

    def __init__(self, memory: "Memory", info: "AnonInodeInfo", pages: list[int]) -> None:
        self._memory = memory
        self._info = info
        self._pages = pages
        self._entries = [int(info.entries(page, 1)[0]) for page in pages]
        self._slots = numbers(np.array(self._entries, np.int64))
        self._buffer = aligned_pages(len(pages))
        memory.swap.pin(self._slots)

    def run(self) -> None:
        """Read the slots."""
        self._memory.swap.read_into(self._slots, self._buffer.data.cast("B"))

    def finish(self) -> None:
        """Put each page that is still where it was into a frame, and free its slot."""
        self.abandon()
        for page, entry, data in zip(self._pages, self._entries, self._buffer, strict=True):
            if self._memory.frames.free and int(self._info.entries(page, 1)[0]) == entry:
                self._memory.store_page(self._info, page, data)

    def abandon(self) -> None:
        """Let the slots go."""
        self._memory.swap.unpin(self._slots)


class PageCut:
    """Clears the bytes from ``tail`` on of a page on swap, in its slot. See `Work`."""

    def __init__(self, memory: "Memory", info: "AnonInodeInfo", page: int, tail: int) -> None:
        self._swap = memory.swap
        self._tail = tail
        entries = info.entries(page, 1).copy()
        self.entry = int(entries[0])
        self._slots = numbers(entries)
        self._swap.pin(self._slots)

    def run(self) -> None:
        """Read the slot and write it back."""
        page = aligned_pages(1)
        self._swap.read_into(self._slots, page.data.cast("B"))
        page[0, self._tail :] = 0
        self._swap.write_from(self._slots, page.data.cast("B"))

    def finish(self) -> None:
        """Let the slot go."""
        self._swap.unpin(self._slots)

    abandon = finish
