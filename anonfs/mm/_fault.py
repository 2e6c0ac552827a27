"""Faults: getting at pages that are on swap or in the front store.

A `PageRead` answers a READ: the bytes go to the kernel's page cache, the page stays where it is and
no frame is taken, since a READ brings up to a read-ahead window of pages around the one that was
touched. A `PageLoad` brings a page into a frame, because a write is about to change a part of it,
and a `FrontLoad` does with one of the front store.
For what clears the rest of a page because a file ends within it, see `PageCut`.
"""

from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from anonfs.mm._entry import Entries, PageState, numbers, states
from anonfs.mm._front import FrontIn
from anonfs.mm._swap_in import BadPageError, SwapIn
from anonfs.swap import AsyncReads, aligned_pages, checksum

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo
    from anonfs.mm._memory import Memory

__all__ = ["FrontLoad", "OnePageRead", "PageLoad", "PageRead", "SwapRead"]


class PageRead:
    """The bytes of a range of pages from ``first``, of which some are on swap. See `Work`.

    Some may be in the front store: then it ``waits_for_front``, which can take for ever, and may
    be done at once all the same unless it ``has_to_wait``. The bytes go ``into`` an array of pages,
    or one of its own.
    """

    def __init__(
        self,
        memory: "Memory",
        info: "AnonInodeInfo",
        first: int,
        entries: Entries,
        inside: slice,
        into: npt.NDArray[np.uint8] | None = None,
        *,
        has_to_wait: bool = False,
    ) -> None:
        self.has_to_wait = has_to_wait
        on_swap = states(entries) == PageState.ON_SWAP
        in_front = info.shows_front(first, entries)
        others = np.flatnonzero(~(on_swap | in_front))
        self._rows = np.flatnonzero(on_swap)
        self._front_rows = np.flatnonzero(in_front)
        self._pages = aligned_pages(entries.size) if into is None else into
        self._inside = inside
        if others.size:
            self._pages[others] = memory.frames.pages[numbers(entries[others])]
        self._swap_in = SwapIn(memory, info, first + self._rows, entries[self._rows])
        self._front_in = FrontIn(info, first + self._front_rows) if in_front.any() else None

    @property
    def waits_for_front(self) -> bool:
        """Whether `run` reads the front store."""
        return self._front_in is not None

    def run(self) -> None:
        """Read the slots and the front. Raises BadPageError, or AnonfsError: EIO."""
        if self._rows.size:
            self._swap_in.run(self._pages, self._rows)
        if self._front_in is not None:
            self._front_in.run(self._pages, self._front_rows)

    def run_at_once(self) -> bool:
        """As `run`, if nothing has to be waited for; returns whether it was done."""
        if self._rows.size or self._front_in is None:
            return False
        return self._front_in.run_at_once(self._pages, self._front_rows)

    def finish(self) -> None:
        """Let the slots and the front go."""
        self._swap_in.finish()
        self._leave_front()

    def abandon(self) -> None:
        """Let the slots and the front go."""
        self._swap_in.end()
        self._leave_front()

    def _leave_front(self) -> None:
        if self._front_in is not None:
            self._front_in.end()

    @property
    def data(self) -> memoryview:
        """The bytes asked for, once finished."""
        return self._pages.data.cast("B")[self._inside]


class OnePageRead:
    """The bytes of one ``page`` on swap: what `PageRead` does, in a third of the time. See `Work`.

    ``where`` is its slot and its checksum.

    It is what a random access comes to, and there is nothing else that its process could do.
    """

    __slots__ = ("_error", "_info", "_inside", "_memory", "_page", "_slot", "_sum", "data")

    def __init__(
        self,
        memory: "Memory",
        info: "AnonInodeInfo",
        page: int,
        where: tuple[int, int],
        inside: slice,
    ) -> None:
        self._memory = memory
        self._info = info
        self._page = page
        self._inside = inside
        self._slot, self._sum = where
        self._error: BadPageError | None = None
        self.data = memoryview(b"")
        memory.swap.pin_one(self._slot)

    def run(self) -> None:
        """Read the slot. Raises BadPageError."""
        page = aligned_pages(1).data.cast("B")
        try:
            self._memory.swap.read_page(self._slot, page)
        except OSError as error:
            self.take(page, error)
        else:
            self.take(page, None)

    def begin(self, reads: AsyncReads) -> int | None:
        """In place of `run`: ask ``reads`` for the slot; what is read is for `take`.

        Returns the number of the read, or None: it has to be run.
        """
        return self._memory.swap.ask_for(self._slot, reads)

    def take(self, page: memoryview, error: OSError | None) -> None:
        """What was read, if there was no ``error``. Raises BadPageError."""
        if error is not None:
            self._fail(1, error)
        if checksum(page) != self._sum:
            self._fail(0, None)
        self.data = page[self._inside]

    def _fail(self, unreadable: int, cause: OSError | None) -> NoReturn:
        self._error = BadPageError(self._info.ino, [self._page], [self._slot], unreadable)
        raise self._error from cause

    def finish(self) -> None:
        """Let the slot go."""
        self._memory.swap.unpin_one(self._slot)
        self._memory.counters.swapped_in += 1

    def abandon(self) -> None:
        """Let the slot go, and count the error."""
        swap, error = self._memory.swap, self._error
        swap.unpin_one(self._slot)
        if error is not None:
            swap.read_errors += error.unreadable
            swap.checksum_errors += 1 - error.unreadable


class PageLoad:
    """Brings pages that are on swap into frames. See `Work`.

    A page is left as it is if it went elsewhere meanwhile or if no frame is free: the caller looks
    again and asks again.
    """

    def __init__(self, memory: "Memory", info: "AnonInodeInfo", pages: list[int]) -> None:
        self._memory = memory
        self._info = info
        self._pages = pages
        self._entries = np.concatenate([info.entries(page, 1) for page in pages])
        self._buffer = aligned_pages(len(pages))
        self._swap_in = SwapIn(memory, info, np.array(pages, np.int64), self._entries)

    def run(self) -> None:
        """Read the slots. Raises BadPageError."""
        self._swap_in.run(self._buffer, np.arange(len(self._pages)))

    def finish(self) -> None:
        """Put each page that is still where it was into a frame, and free its slot."""
        self._swap_in.finish()
        entries = self._entries.tolist()
        for page, entry, data in zip(self._pages, entries, self._buffer, strict=True):
            if self._memory.frames.free and int(self._info.entries(page, 1)[0]) == entry:
                self._memory.store_page(self._info, page, data)

    def abandon(self) -> None:
        """Let the slots go."""
        self._swap_in.end()


class FrontLoad:
    """Brings pages that show the front into frames: they are anonymous then. See `Work`.

    A page is left as it is if it is there already, was punched, or if no frame is free.
    """

    def __init__(self, memory: "Memory", info: "AnonInodeInfo", pages: list[int]) -> None:
        self._memory = memory
        self._info = info
        self._pages = pages
        self._end = info.front_end
        self._rows = np.arange(len(pages))
        self._buffer = aligned_pages(len(pages))
        self._front = info.front
        self._front_in = FrontIn(info, np.array(pages, np.int64))

    def run(self) -> None:
        """Read the front. Raises AnonfsError: EIO."""
        self._front_in.run(self._buffer, self._rows)

    def run_at_once(self) -> bool:
        """As `run`, if nothing has to be waited for; returns whether it was done."""
        return self._front_in.run_at_once(self._buffer, self._rows)

    def finish(self) -> None:
        """Put each page that still shows the front into a frame."""
        self._front_in.end()
        if self._info.front is not self._front or self._info.front_end != self._end:
            return
        for page, data in zip(self._pages, self._buffer, strict=True):
            if self._memory.frames.free and self._info.shows_front_at(page):
                self._memory.store_page(self._info, page, data)

    def abandon(self) -> None:
        """Let the front go."""
        self._front_in.end()


SwapRead = PageRead | OnePageRead
"""What answers a READ of pages on swap; ``data`` are the bytes, once finished."""
