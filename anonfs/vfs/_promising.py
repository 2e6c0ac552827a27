"""Promising: the pages that an inode is promised a place for, and those that its owner is charged.

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

The pages of a locked inode are promised a place in core, those that it gets later included. A
frozen one is promised, and charged, the pages that it has: others may part with them.

The owner of an inode is charged the pages of its size, with ``overcommit`` or not, see `Quotas`.
Charges follow sizes and writes as promises do by default.
"""

import errno
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from anonfs.errors import AnonfsError, require
from anonfs.limits import Usage
from anonfs.mm import AnonInodeInfo, Memory
from anonfs.units import PAGE_SHIFT, Ino, pages_for
from anonfs.vfs._inode import Inode
from anonfs.vfs._quotas import Quotas

__all__ = ["Promising"]


class Promising:
    """Makes promises to ``inodes`` and charges their owners in ``quotas``.

    ``inode.promised`` and ``inode.charged`` are how many pages; ``writes`` is ours, too.
    """

    def __init__(
        self, memory: Memory, inodes: Mapping[Ino, Inode], quotas: Quotas, *, overcommit: bool
    ) -> None:
        self._memory = memory
        self._promises = memory.promises
        self._loaded = memory.loaded
        self._inodes = inodes
        self._quotas = quotas
        self._overcommit = overcommit

    @property
    def by_size(self) -> bool:
        """Whether an inode is promised all pages of its size: none of them needs more."""
        return not self._overcommit

    @contextmanager
    def writing(self, inode: Inode, offset: int, size: int) -> Iterator[None]:
        """A write of ``size`` bytes at ``offset``, which has room from here to the end.

        Raises:
            AnonfsError: ENOSPC, EDQUOT; nothing was changed.
        """
        self._reserve(inode, pages_for(offset + size), self._wanted(inode, offset, size))
        inode.writes += 1
        written = False
        try:
            yield
            written = True
        finally:
            inode.writes -= 1
            self._refund(inode)
            # With overcommit each page had its promise, and there is nothing to give back.
            if not (written and self._overcommit):
                self._settle_promise(inode)

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
        if self._overcommit and inode.info is not None and not inode.is_frozen:
            self._raise_to(inode, inode.promised + self._fresh(inode.info, first, count))

    def take_back(self, inode: Inode, holes: int) -> None:
        """So many pages of ``inode`` that had been handed out are holes, and handed out no more."""
        if self._overcommit and not inode.is_frozen:
            self._give_back(inode, holes)

    def grow(self, inode: Inode, size: int) -> None:
        """Promise what ``inode`` needs to have ``size`` bytes, and charge it.

        Raises:
            AnonfsError: ENOSPC, EDQUOT; nothing was changed.
        """
        if inode.info is not None:
            pages = pages_for(size)
            self._reserve(inode, pages, 0 if self._overcommit else pages)

    def _reserve(self, inode: Inode, pages: int, promised: int) -> None:
        """Charge ``inode`` ``pages`` at least, and have at least so many ``promised``."""
        if pages <= inode.charged:
            self._raise_to(inode, promised)
            return
        self._quotas.check_file(pages)
        with self._quotas.charging(inode.uid, Usage(pages=pages - inode.charged)):
            self._raise_to(inode, promised)
        inode.charged = pages

    def _refund(self, inode: Inode) -> None:
        """Charge ``inode`` no more than its size, unless a write is under way."""
        spare = inode.charged - self._chargeable(inode)
        if spare > 0 and not inode.writes:
            self._quotas.refund(inode.uid, Usage(pages=spare))
            inode.charged -= spare

    def cover(self, inode: Inode) -> None:
        """Promise ``inode`` what it needs as it is, and charge it.

        Raises AnonfsError: ENOSPC, EDQUOT.
        """
        self._reserve(inode, self._chargeable(inode), self._needed(inode))

    def _raise_to(self, inode: Inode, pages: int) -> None:
        if pages <= inode.promised:
            return
        spare = inode.promised
        if self._overcommit and pages - inode.promised > self._room(inode):
            self._settle_all()
        spare -= inode.promised
        more = pages - spare - inode.promised
        if inode.locked:
            with self._quotas.charging(inode.uid, Usage(locked=more)):
                self._promises.make(more, locked=True)
        else:
            self._promises.make(more)
        inode.promised += more

    def _room(self, inode: Inode) -> int:
        """The pages that can still be promised to ``inode``."""
        promises = self._promises
        return min(promises.free, promises.lockable) if inode.locked else promises.free

    def _settle_all(self) -> None:
        """Look for promises that nobody needs: pages that turned out to be zeros are not told."""
        for inode in self._inodes.values():
            self._settle_promise(inode)

    def settle(self, inode: Inode) -> None:
        """Give back what ``inode`` does not need, unless a write is under way."""
        self._refund(inode)
        self._settle_promise(inode)

    def _settle_promise(self, inode: Inode) -> None:
        spare = inode.promised - self._needed(inode)
        if spare > 0 and not inode.writes:
            self._give_back(inode, spare)

    def _give_back(self, inode: Inode, pages: int) -> None:
        self._promises.give_back(pages, locked=bool(inode.locked))
        inode.promised -= pages
        if inode.locked:
            self._quotas.refund(inode.uid, Usage(locked=pages))

    def usage(self, inode: Inode) -> Usage:
        """What the owner of ``inode`` is charged for it."""
        return Usage(inode.charged, 1, inode.promised if inode.locked else 0)

    @staticmethod
    def _chargeable(inode: Inode) -> int:
        if inode.info is None:
            return 0
        return inode.allocated if inode.is_frozen else pages_for(inode.size)

    def _needed(self, inode: Inode) -> int:
        if inode.info is None:
            return 0
        if inode.is_frozen:
            return inode.allocated
        if not self._overcommit:
            return pages_for(inode.size)
        return inode.allocated + sum(
            int(np.count_nonzero(loaded & (inode.info.entries(first, loaded.size) == 0)))
            for first, loaded in self._loaded.of(inode.info)
        )

    def forget(self, inode: Inode) -> None:
        """Give back all that ``inode`` was promised and charged: it is gone."""
        self._quotas.refund(inode.uid, self.usage(inode))
        inode.charged = 0
        self._promises.give_back(inode.promised, locked=bool(inode.locked))
        inode.promised = 0

    @property
    def capacity(self) -> int:
        """The pages that files can have in all."""
        size = self._quotas.size
        return self._promises.capacity if size is None else min(self._promises.capacity, size)

    @property
    def free(self) -> int:
        """The pages that files can still have."""
        size = self._quotas.size
        if size is None:
            return self._promises.free
        return min(self._promises.free, size - self._quotas.pages)

    def lock(self, inode: Inode) -> None:
        """Keep the pages of ``inode`` in core; those on swap are for the caller to bring in.

        Raises:
            AnonfsError: ENOMEM, not as many can be locked; nothing was changed.
        """
        if inode.info is None or inode.locked:
            return
        self.settle(inode)
        try:
            with self._quotas.charging(inode.uid, Usage(locked=inode.promised)):
                self._promises.lock(inode.promised)
        except AnonfsError as error:
            raise AnonfsError(errno.ENOMEM, str(error)) from error
        self._memory.lock(inode.info)
        inode.locked = 1

    def unlock(self, inode: Inode) -> None:
        """Let the pages of ``inode`` go to swap again."""
        if inode.info is not None and inode.locked:
            self._promises.unlock(inode.promised)
            self._quotas.refund(inode.uid, Usage(locked=inode.promised))
            self._memory.unlock(inode.info)
            inode.locked = 0

    def check_invariants(self, inodes: list[Inode]) -> None:
        """Recount promises and charges, with ``inodes`` all that there are."""
        users: dict[int, Usage] = defaultdict(Usage)
        for inode in inodes:
            needed, promised = self._needed(inode), inode.promised
            require(promised >= needed, f"inode {inode.ino}: {promised} of {needed} promised")
            # Pages that turned out to be zeros cease to exist, and nobody is told.
            lazy = self._overcommit or inode.is_frozen
            settled = promised == needed or inode.writes or lazy
            require(settled, f"inode {inode.ino}: {promised} promised, not {needed}")
            due = self._chargeable(inode)
            more = inode.charged > due and (inode.writes or inode.is_frozen)
            charged = inode.charged == due or more
            require(charged, f"inode {inode.ino}: {inode.charged} pages charged, not {due}")
            users[inode.uid] = users[inode.uid].plus(self.usage(inode))
        self._quotas.check_invariants(users)
        locked = sum(inode.promised for inode in inodes if inode.locked)
        self._promises.check_invariants(sum(inode.promised for inode in inodes), locked)
