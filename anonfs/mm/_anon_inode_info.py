"""The seed's ``struct anon_inode_info``: for one inode, where each of its pages is.

A sparse table of leaves of 512 page entries, allocated when a page of them first exists and
released when the last is gone, so that a hole of any size costs nothing::

    leaves  {0: 1, 1000: 2}        pages 0 … 511 are described by leaf 1,
                                   pages 512000 … 512511 by leaf 2, all others are NONE

A leaf may be shared with the tables of other inodes, see `Sharing`: to be read only then. It knows
entries, not what they name: frames and slots are given and taken back by `Memory`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anonfs.errors import require
from anonfs.mm._entry import Entries, PageState, states
from anonfs.mm._front import Front
from anonfs.mm._leaves import ENTRIES_PER_LEAF, LEAF_SHIFT, Leaves
from anonfs.mm._ranges import Ranges
from anonfs.units import Ino, pages_for

__all__ = ["AnonInodeInfo", "Span"]


class Span(NamedTuple):
    """A range of pages within one leaf: ``entries`` is a view, its first at ``position``."""

    first: int
    entries: Entries
    position: int


class AnonInodeInfo:
    """The page table of the inode ``ino``; ``in_core`` and ``on_swap`` count its pages.

    While it is ``locked`` no page in core leaves for swap, see `Memory.lock`. Pages that do not
    exist show its ``front`` up to byte ``front_end``, see `Front`, unless they are ``hidden``.
    """

    __slots__ = (
        "_pool",
        "front",
        "front_end",
        "hidden",
        "in_core",
        "ino",
        "leaves",
        "locked",
        "on_swap",
    )

    def __init__(self, ino: Ino, pool: Leaves) -> None:
        self.ino = ino
        self.leaves: dict[int, int] = {}
        self.in_core = 0
        self.on_swap = 0
        self.locked = False
        self.front: Front | None = None
        self.front_end = 0
        self.hidden = Ranges()
        self._pool = pool

    @property
    def allocated(self) -> int:
        """The pages that exist, in core or on swap."""
        return self.in_core + self.on_swap

    def entries(self, first: int, count: int) -> Entries:
        """The entries of ``count`` pages from ``first``, to read only.

        A view where one leaf has them all, a copy otherwise.
        """
        index, low = first >> LEAF_SHIFT, first & (ENTRIES_PER_LEAF - 1)
        leaf = self.leaves.get(index)
        if leaf is not None and low + count <= ENTRIES_PER_LEAF:
            base = (leaf << LEAF_SHIFT) + low
            return self._pool.entries[base : base + count]
        found = np.zeros(count, np.int64)
        for span in self.spans(first, count):
            found[span.first - first : span.first - first + span.entries.size] = span.entries
        return found

    def holes(self, first: int, count: int) -> int:
        """How many of ``count`` pages from ``first`` do not exist."""
        return count - sum(int(np.count_nonzero(s.entries)) for s in self.spans(first, count))

    # -- the front -------------------------------------------------------------------------

    def put_over(self, front: Front, end: int) -> None:
        """Have ``front`` show up to byte ``end`` where there are no pages."""
        front.get()
        self.front, self.front_end = front, end

    def change_front(self, front: Front, end: int) -> None:
        """Have ``front`` show up to byte ``end`` in place of the one that there is."""
        old = self.front
        self.put_over(front, end)
        if old is not None:
            old.put()

    def leave_front(self) -> None:
        """Have no front any more."""
        front, self.front = self.front, None
        self.cut_front(0)
        if front is not None:
            front.put()

    @property
    def front_pages(self) -> int:
        """The pages from 0 on that show the front, unless they exist or are hidden."""
        return pages_for(self.front_end)

    def front_shown(self, first: int, end: int) -> int:
        """How many pages from ``first`` to before ``end`` show the front."""
        end = min(end, self.front_pages)
        if first >= end:
            return 0
        return self.holes(first, end - first) - self.hidden.count(first, end)

    def front_run(self, page: int) -> tuple[int, int] | None:
        """Pages from ``page`` on, to before another, that show the front or exist; the first run.

        None if there are none, whatever exists beyond the front.
        """
        for start, end in self.hidden.within(page, self.front_pages):
            if page < start:
                return page, start
            page = end
        return (page, self.front_pages) if page < self.front_pages else None

    def cut_front(self, end: int) -> None:
        """Show nothing of the front from byte ``end`` on."""
        self.front_end = min(self.front_end, end)
        self.hidden.cut(self.front_pages)

    def show_front(self) -> None:
        """Show all of the front where there are no pages."""
        if self.front is not None:
            self.front_end = self.front.size
            self.hidden.cut(0)

    def shows_front(self, first: int, entries: Entries) -> npt.NDArray[np.bool_]:
        """Which of the pages from ``first`` on, which have these ``entries``, show the front."""
        shown: npt.NDArray[np.bool_] = entries == 0
        shown[max(0, self.front_pages - first) :] = False
        for start, end in self.hidden.within(first, first + entries.size):
            shown[start - first : end - first] = False
        return shown

    def shows_front_at(self, page: int) -> bool:
        """Whether ``page`` shows the front."""
        return bool(self.shows_front(page, self.entries(page, 1))[0])

    # -- spans -----------------------------------------------------------------------------

    def spans(self, first: int, count: int) -> Iterator[Span]:
        """The parts of ``count`` pages from ``first`` that leaves describe, ascending."""
        end = first + count
        for index in self._known(range(first >> LEAF_SHIFT, ((end - 1) >> LEAF_SHIFT) + 1)):
            yield self._span(index, max(first, index << LEAF_SHIFT), end)

    def _known(self, indexes: range) -> list[int]:
        """Which of ``indexes`` there are leaves for, ascending."""
        # A huge hole has few leaves to look at, a small range few indexes.
        if len(indexes) > len(self.leaves):
            return sorted(index for index in self.leaves if index in indexes)
        return [index for index in indexes if index in self.leaves]

    def spans_for_write(self, first: int, count: int) -> list[Span]:
        """The parts of ``count`` pages from ``first``, with leaves for all; none of them is shared.

        Raises:
            AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
        """
        end = first + count
        indexes = range(first >> LEAF_SHIFT, ((end - 1) >> LEAF_SHIFT) + 1)
        missing = [index for index in indexes if index not in self.leaves]
        try:
            for index in missing:
                self.leaves[index] = self._pool.allocate(self, index)
        except OSError:
            for index in missing:
                if index in self.leaves:
                    self.release_if_empty(index)
            raise
        return [self._span(index, max(first, index << LEAF_SHIFT), end) for index in indexes]

    def _span(self, index: int, start: int, end: int) -> Span:
        stop = min(end, (index + 1) << LEAF_SHIFT)
        base = (self.leaves[index] << LEAF_SHIFT) + (start & (ENTRIES_PER_LEAF - 1))
        return Span(start, self._pool.entries[base : base + stop - start], base)

    def release_if_empty(self, index: int) -> None:
        """Give leaf ``index`` back if none of its pages exists."""
        base = self.leaves[index] << LEAF_SHIFT
        if not self._pool.entries[base : base + ENTRIES_PER_LEAF].any():
            self._pool.drop(self.leaves.pop(index), self)

    def parts(self, first: int, count: int) -> tuple[list[tuple[int, int]], list[int]]:
        """``count`` pages from ``first`` as parts of leaves, and as whole ones, ascending.

        The parts are (first, count), one at either end at the most; of the leaves the indexes.
        """
        end = first + count
        low, high = -(-first >> LEAF_SHIFT), end >> LEAF_SHIFT
        if low > high:
            return [(first, count)], []
        ends = (first, (low << LEAF_SHIFT) - first), (high << LEAF_SHIFT, end % ENTRIES_PER_LEAF)
        return [part for part in ends if part[1]], self._known(range(low, high))

    def give_back(self, indexes: list[int]) -> None:
        """Have the leaves ``indexes`` no more: they are shared, or none of their pages exists."""
        for index in indexes:
            self._pool.drop(self.leaves.pop(index), self)

    def runs(self, pages: int) -> Iterator[tuple[int, int, PageState]]:
        """The first ``pages`` pages as runs (first, last, state) of one state, holes included.

        What shows the front is FRONT.
        """
        start, state = 0, PageState.NONE
        for first, following in self._changes(pages):
            if following is state:
                continue
            if first > start:
                yield start, first - 1, state
            start, state = first, following
        if pages > start:
            yield start, pages - 1, state

    def _changes(self, pages: int) -> Iterator[tuple[int, PageState]]:
        """Pages at which the state may change, with the state from there on."""
        end = 0
        for span in self.spans(0, pages) if pages else ():
            yield from self._between(end, span.first)
            end = span.first + span.entries.size
            kinds = states(span.entries)
            kinds[self.shows_front(span.first, span.entries)] = PageState.FRONT
            for at in [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist()]:
                yield span.first + at, PageState(int(kinds[at]))
        yield from self._between(end, pages)

    def _between(self, first: int, end: int) -> Iterator[tuple[int, PageState]]:
        """The same for pages from ``first`` to before ``end``, of which there are no leaves."""
        shown = min(self.front_pages, end)
        for start, stop in self.hidden.within(first, shown):
            if first < start:
                yield first, PageState.FRONT
            yield start, PageState.NONE
            first = stop
        if first < shown:
            yield first, PageState.FRONT
        if max(first, shown) < end:
            yield max(first, shown), PageState.NONE

    def check_invariants(self) -> None:
        """Recount the pages by state."""
        in_core = on_swap = 0
        for index in self.leaves:
            first = index << LEAF_SHIFT
            entries = self._span(index, first, first + ENTRIES_PER_LEAF).entries
            kinds = states(entries)
            require(kinds.any(), "an empty leaf was kept")
            for start, end in self.hidden.within(first, first + ENTRIES_PER_LEAF):
                exist = entries[start - first : end - first].any()
                require(not exist, "a page that exists is hidden")
            in_core += int((kinds == PageState.IN_CORE).sum())
            on_swap += int((kinds == PageState.ON_SWAP).sum())
        require((in_core, on_swap) == (self.in_core, self.on_swap), "pages miscounted")
        size = self.front.size if self.front is not None else 0
        require(0 <= self.front_end <= size, "a front shows more than it has")
        self.hidden.check_invariants()
        beyond = any(end > self.front_pages for _, end in self.hidden)
        require(not beyond, "what is hidden is no front")
