"""Promising: the pages that each inode is promised a place for.

By default those are the pages up to its size, whether they exist or not, so that what fails for
want of room is the ftruncate(2) or write(2) that would make it larger, and never a store to a
mapping. With ``overcommit`` sizes are free, and a page is promised a place when it is handed out:
by a READ, which whoever dirties it must have made before, or when write(2) makes it. So what fails
then is the fault, and never the write-back. A page that was handed out and is still a hole when it
leaves the page cache needs no place any more.

A write may have to wait between being promised its pages and storing them, and meanwhile others
may write or truncate. So while writes are under way promises only grow; when the last has ended,
well or not, the inode keeps what it needs and the rest is given back::

    size       ├──────────────┤
    writes     │         ├────────────┤ first                              second ├──┤
    promised   ├──────────────────────┤ while it lasts; then as many as the size has
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from anonfs.errors import require
from anonfs.mm import AnonInodeInfo, Memory
from anonfs.units import PAGE_SHIFT, Ino, pages_for
from anonfs.vfs._inode import Inode

__all__ = ["Promising"]


class Promising:
    """Makes promises to ``inodes``: ``inode.promised`` is how many pages, ``writes`` is ours."""

    def __init__(self, memory: Memory, inodes: Mapping[Ino, Inode], *, overcommit: bool) -> None:
        self._promises = memory.promises
        self._loaded = memory.loaded
        self._inodes = inodes
        self._overcommit = overcommit

    @property
    def by_size(self) -> bool:
        """Whether an inode is promised all pages of its size: none of them needs more."""
        return not self._overcommit

    @contextmanager
    def writing(self, inode: Inode, offset: int, size: int) -> Iterator[None]:
        """A write of ``size`` bytes at ``offset``, which has room from here to the end.

        Raises:
            AnonfsError: ENOSPC; nothing was changed.
        """
        self._raise_to(inode, self._wanted(inode, offset, size))
        inode.writes += 1
        written = False
        try:
            yield
            written = True
        finally:
            inode.writes -= 1
            # With overcommit each page had its promise, and there is nothing to give back.
            if not (written and self._overcommit):
                self.settle(inode)

    def _wanted(self, inode: Inode, offset: int, size: int) -> int:
        """The pages that ``inode`` has to be promised before a write."""
        if not self._overcommit:
            return pages_for(offset + size)
        if inode.info is None:
            return 0
        first = offset >> PAGE_SHIFT
        return inode.promised + self._fresh(inode.info, first, pages_for(offset + size) - first)

    def _fresh(self, info: AnonInodeInfo, first: int, count: int) -> int:
        """How many of ``count`` pages from ``first`` neither exist nor were handed out."""
        if info.holes(first, count) == 0:
            return 0
        holes = info.entries(first, count) == 0
        return int(np.count_nonzero(holes & ~self._loaded.mask(info, first, count)))

    def hand_out(self, inode: Inode, first: int, count: int) -> None:
        """``count`` pages from ``first`` are about to be handed out: they may be written to.

        Raises:
            AnonfsError: ENOSPC; nothing was changed.
        """
        if self._overcommit and inode.info is not None:
            self._raise_to(inode, inode.promised + self._fresh(inode.info, first, count))

    def take_back(self, inode: Inode, holes: int) -> None:
        """So many pages of ``inode`` that had been handed out are holes, and handed out no more."""
        if self._overcommit:
            self._promises.give_back(holes)
            inode.promised -= holes

    def grow(self, inode: Inode, size: int) -> None:
        """Promise what ``inode`` needs to have ``size`` bytes. Raises AnonfsError: ENOSPC."""
        if inode.info is not None and not self._overcommit:
            self._raise_to(inode, pages_for(size))

    def _raise_to(self, inode: Inode, pages: int) -> None:
        if pages <= inode.promised:
            return
        spare = inode.promised
        if self._overcommit and pages - inode.promised > self._promises.free:
            self._settle_all()
        spare -= inode.promised
        self._promises.make(pages - spare - inode.promised)
        inode.promised = pages - spare

    def _settle_all(self) -> None:
        """Look for promises that nobody needs: pages that turned out to be zeros are not told."""
        for inode in self._inodes.values():
            self.settle(inode)

    def settle(self, inode: Inode) -> None:
        """Give back what ``inode`` does not need, unless a write is under way."""
        spare = inode.promised - self._needed(inode)
        if spare > 0 and not inode.writes:
            self._promises.give_back(spare)
            inode.promised -= spare

    def _needed(self, inode: Inode) -> int:
        if inode.info is None:
            return 0
        if not self._overcommit:
            return pages_for(inode.size)
        return inode.allocated + sum(
            int(np.count_nonzero(loaded & (inode.info.entries(first, loaded.size) == 0)))
            for first, loaded in self._loaded.of(inode.info)
        )

    def forget(self, inode: Inode) -> None:
        """Give back all that ``inode`` was promised: its pages are gone."""
        self._promises.give_back(inode.promised)
        inode.promised = 0

    def check_invariants(self, inodes: list[Inode]) -> None:
        """Recount the promises, with ``inodes`` all that there are."""
        for inode in inodes:
            needed, promised = self._needed(inode), inode.promised
            require(promised >= needed, f"inode {inode.ino}: {promised} of {needed} promised")
            # Pages that turned out to be zeros cease to exist, and nobody is told.
            settled = promised == needed or inode.writes or self._overcommit
            require(settled, f"inode {inode.ino}: {promised} promised, not {needed}")
        self._promises.check_invariants(sum(inode.promised for inode in inodes))
