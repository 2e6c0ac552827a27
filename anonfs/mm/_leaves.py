"""Leaves: the page entries of all inodes, 512 to a leaf, in one array.

A *position* is an index into that array, and so names one page of one inode with one number that
fits the frames' reverse map::

    position          0 … 511   512 … 1023   1024 … 1535
    leaf                 0           1             2
    owner (ino, index)  none      (7, 0)        (7, 1000)    inode 7, pages 512000 … 512511

Leaf 0 is never used, so position 0 can mean none. Entries and owners are image; which
`AnonInodeInfo` an owner is, is derived.

A leaf can have more owners than the one in its record: those have records of their own, and all
have it at the same index. The *kin* of a leaf are those that it was copied to and from, at any
distance; see `Sharing` for what both are good for.
"""

import errno
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

import numpy as np

from anonfs.errors import AnonfsError, require
from anonfs.mm._entry import Entries
from anonfs.mm._memfd import MemoryFile, RecordTable

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo

__all__ = ["ENTRIES_PER_LEAF", "LEAF_SHIFT", "Leaves", "batches"]

LEAF_SHIFT = 9
ENTRIES_PER_LEAF = 1 << LEAF_SHIFT

_BATCH = 32
_LEAVES = 1 << 23  # positions are 32 bits wide: 16 TiB of pages that exist
_INO, _INDEX, _WIDTH = 0, 1, 2  # the words of an owner
_LEAF = 1  # in the place of the index, those of one more owner
_NO_KIN: frozenset[int] = frozenset()


def batches(leaves: list[int]) -> Iterator[list[int]]:
    """``leaves`` in parts that are worked on in one step each.

    What that takes stays in the processor's cache, and malloc keeps it: twice as many would have it
    ask the system for fresh memory for each array, which takes longer than what is done in it.
    """
    for start in range(0, len(leaves), _BATCH):
        yield leaves[start : start + _BATCH]


class Leaves:
    """The pool that every page table takes its leaves from.

    ``sharers`` are, of each leaf with several owners, all but one, with their records.
    """

    def __init__(self) -> None:
        self._file = MemoryFile("leaves", _LEAVES * ENTRIES_PER_LEAF * 8)
        self.entries: Entries = self._file.words
        self.table: Entries = self.entries.reshape(-1, ENTRIES_PER_LEAF)
        self._owners = RecordTable("leaf-owners", _WIDTH, _LEAVES, errno.ENOSPC)
        self._more_owners = RecordTable("leaf-sharers", _WIDTH, _LEAVES, errno.ENOSPC)
        self._infos: dict[int, AnonInodeInfo] = {}
        self.sharers: dict[int, dict[AnonInodeInfo, int]] = {}
        self._kin: dict[int, set[int]] = {}

    def allocate(self, info: "AnonInodeInfo", index: int) -> int:
        """A leaf of NONE entries for pages ``index * 512`` and on of ``info``.

        Raises:
            AnonfsError: ENOSPC, all leaves are in use.
        """
        leaf = self._owners.allocate()
        base = leaf * _WIDTH
        self._owners.words[base + _INDEX] = index
        self._owners.words[base + _INO] = info.ino
        self._infos[leaf] = info
        return leaf

    def require_room(self, leaves: int, owners: int = 0) -> None:
        """Whether there are so many ``leaves`` and records of more ``owners``.

        Raises AnonfsError: ENOSPC.
        """
        if self._owners.free < leaves or self._more_owners.free < owners:
            raise AnonfsError(errno.ENOSPC, "no room for more leaves")

    def copy(
        self, sources: dict[int, int], info: "AnonInodeInfo"
    ) -> tuple[dict[int, int], Entries]:
        """Copies of the leaves ``sources`` (by index) for ``info``; there is room for them.

        Returns them by index as well, and their entries.
        """
        copies = {index: self._owners.allocate() for index in sources}
        entries = self.table[list(sources.values())]
        self.table[list(copies.values())] = entries
        for index, leaf in copies.items():
            base = leaf * _WIDTH
            self._owners.words[base + _INDEX] = index
            self._owners.words[base + _INO] = info.ino
            self._infos[leaf] = info
            source = sources[index]
            kin = self._kin.get(source)
            if kin is None:
                kin = self._kin[source] = {source}
            kin.add(leaf)
            self._kin[leaf] = kin
        return copies, entries.ravel()

    def share(self, leaf: int, info: "AnonInodeInfo") -> None:
        """``info`` is one more owner of ``leaf``; there is room for it."""
        row = self._more_owners.allocate()
        base = row * _WIDTH
        self._more_owners.words[base + _LEAF] = leaf
        self._more_owners.words[base + _INO] = info.ino
        self.sharers.setdefault(leaf, {})[info] = row

    def drop(self, leaf: int, info: "AnonInodeInfo") -> None:
        """``info`` is no owner of ``leaf`` any more.

        What is left of a leaf without owners are entries that nobody else may need: all NONE.
        """
        sharers = self.sharers.get(leaf)
        if sharers is None:
            del self._infos[leaf]
            self._owners.release(leaf)
            self._leave_kin(leaf)
            return
        if info is self._infos[leaf]:
            info = next(iter(sharers))
            self._infos[leaf] = info
            self._owners.words[leaf * _WIDTH + _INO] = info.ino
        self._more_owners.release(sharers.pop(info))
        if not sharers:
            del self.sharers[leaf]

    def _leave_kin(self, leaf: int) -> None:
        kin = self._kin.pop(leaf, None)
        if kin is not None:
            kin.discard(leaf)
            if len(kin) == 1:
                del self._kin[kin.pop()]

    def is_shared(self, leaf: int) -> bool:
        """Whether it has several owners: its entries are not for one of them to change."""
        return leaf in self.sharers

    def owners(self, leaf: int) -> "list[AnonInodeInfo]":
        """Whose leaf it is."""
        return [self._infos[leaf], *self.sharers.get(leaf, ())]

    def kin(self, leaf: int) -> AbstractSet[int]:
        """The leaves whose entries may name the same frames and slots, itself among them."""
        return self._kin.get(leaf, _NO_KIN)

    def index(self, leaf: int) -> int:
        """Which of each owner's leaves it is."""
        return self._owners.words[leaf * _WIDTH + _INDEX]

    @property
    def live(self) -> int:
        """How many leaves are in use."""
        return self._owners.live

    def live_positions(self) -> Entries:
        """The positions of all entries of live leaves, by a walk over the image."""
        leaves = np.array(self._owners.live_rows(), np.int64)
        offsets = np.arange(ENTRIES_PER_LEAF, dtype=np.int64)
        return ((leaves << LEAF_SHIFT)[:, None] + offsets).ravel()

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()
        self._owners.close()
        self._more_owners.close()

    def check_invariants(self) -> None:
        """Owners in the image are the owners here."""
        rows = self._owners.live_rows()
        require(rows == sorted(self._infos), "leaf owners differ from the image")
        require(len(rows) == self._owners.live, "live leaves miscounted")
        for leaf, info in self._infos.items():
            require(self._owners.words[leaf * _WIDTH + _INO] == info.ino, "leaf of another inode")
            for owner in self.owners(leaf):
                require(owner.leaves.get(self.index(leaf)) == leaf, "leaf not in an owner's table")
        self._check_sharers()
        for leaf, kin in self._kin.items():
            require(leaf in kin and len(kin) > 1, "a leaf is not among its kin")
            require(all(self._kin[other] is kin for other in kin), "kin of kin are not kin")

    def _check_sharers(self) -> None:
        found = {
            row: (info.ino, leaf)
            for leaf, sharers in self.sharers.items()
            for info, row in sharers.items()
        }
        require(self._more_owners.live_rows() == sorted(found), "sharers differ from the image")
        for row, pair in found.items():
            base = row * _WIDTH
            words = self._more_owners.words[base : base + _WIDTH].tolist()
            require(tuple(words) == pair, "a sharer differs from the image")
        require(all(self.sharers.values()), "a leaf is shared with nobody")
