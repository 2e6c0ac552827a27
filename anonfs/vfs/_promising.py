"""Promising: the pages that each inode is promised a place for.

By default those are the pages up to its size, whether they exist or not, so that what fails for
want of room is the ftruncate(2) or write(2) that would make it larger, and never a store to a
mapping. With ``overcommit`` sizes are free, and a page is promised a place when it comes to exist.

A write may have to wait between being promised its pages and storing them, and meanwhile others
may write or truncate. So while writes are under way promises only grow; when the last has ended,
well or not, the inode keeps what it needs and the rest is given back::

    size       ├──────────────┤
    writes     │         ├────────────┤ first                              second ├──┤
    promised   ├──────────────────────┤ while it lasts; then as many as the size has
"""

from collections.abc import Iterator
from contextlib import contextmanager

from anonfs.errors import require
from anonfs.mm import Promises
from anonfs.units import PAGE_SHIFT, pages_for
from anonfs.vfs._inode import Inode

__all__ = ["Promising"]


class Promising:
    """Makes ``promises`` to inodes: ``inode.promised`` is how many pages, ``writes`` is ours."""

    def __init__(self, promises: Promises, *, overcommit: bool) -> None:
        self._promises = promises
        self._overcommit = overcommit

    @contextmanager
    def writing(self, inode: Inode, offset: int, size: int) -> Iterator[None]:
        """A write of ``size`` bytes at ``offset``, which has room from here to the end.

        Raises:
            AnonfsError: ENOSPC; nothing was changed.
        """
        self._raise_to(inode, self._wanted(inode, offset, size))
        inode.writes += 1
        try:
            yield
        finally:
            inode.writes -= 1
            self.settle(inode)

    def _wanted(self, inode: Inode, offset: int, size: int) -> int:
        """The pages that ``inode`` has to be promised before a write."""
        if not self._overcommit:
            return pages_for(offset + size)
        if inode.info is None:
            return 0
        first = offset >> PAGE_SHIFT
        return inode.promised + inode.info.holes(first, pages_for(offset + size) - first)

    def grow(self, inode: Inode, size: int) -> None:
        """Promise what ``inode`` needs to have ``size`` bytes. Raises AnonfsError: ENOSPC."""
        if inode.info is not None and not self._overcommit:
            self._raise_to(inode, pages_for(size))

    def _raise_to(self, inode: Inode, pages: int) -> None:
        if pages > inode.promised:
            self._promises.make(pages - inode.promised)
            inode.promised = pages

    def settle(self, inode: Inode) -> None:
        """Give back what ``inode`` does not need, unless a write is under way."""
        spare = inode.promised - self._needed(inode)
        if spare > 0 and not inode.writes:
            self._promises.give_back(spare)
            inode.promised -= spare

    def _needed(self, inode: Inode) -> int:
        if inode.info is None:
            return 0
        return inode.allocated if self._overcommit else pages_for(inode.size)

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
