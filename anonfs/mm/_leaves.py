"""Leaves: the page entries of all inodes, 512 to a leaf, in one array.

A *position* is an index into that array, and so names one page of one inode with one number that
fits the frames' reverse map::

    position          0 … 511   512 … 1023   1024 … 1535
    leaf                 0           1             2
    owner (ino, index)  none      (7, 0)        (7, 1000)    inode 7, pages 512000 … 512511

Leaf 0 is never used, so position 0 can mean none. Entries and owners are image; which
`AnonInodeInfo` an owner is, is derived.
"""

import errno
from typing import TYPE_CHECKING

import numpy as np

from anonfs.errors import require
from anonfs.mm._entry import Entries
from anonfs.mm._memfd import MemoryFile, RecordTable

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo

__all__ = ["ENTRIES_PER_LEAF", "LEAF_SHIFT", "Leaves"]

LEAF_SHIFT = 9
ENTRIES_PER_LEAF = 1 << LEAF_SHIFT

_LEAVES = 1 << 23  # positions are 32 bits wide: 16 TiB of pages that exist
_INO, _INDEX, _WIDTH = 0, 1, 2  # the words of an owner


class Leaves:
    """The pool that every page table takes its leaves from."""

    def __init__(self) -> None:
        self._file = MemoryFile("leaves", _LEAVES * ENTRIES_PER_LEAF * 8)
        self.entries: Entries = self._file.words
        self._owners = RecordTable("leaf-owners", _WIDTH, _LEAVES, errno.ENOSPC)
        self._infos: dict[int, AnonInodeInfo] = {}

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

    def release(self, leaf: int) -> None:
        """Give back a leaf whose entries are all NONE."""
        del self._infos[leaf]
        self._owners.release(leaf)

    def owner(self, leaf: int) -> "AnonInodeInfo":
        """Whose leaf it is."""
        return self._infos[leaf]

    def index(self, leaf: int) -> int:
        """Which of its owner's leaves it is."""
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

    def check_invariants(self) -> None:
        """Owners in the image are the owners here."""
        rows = self._owners.live_rows()
        require(rows == sorted(self._infos), "leaf owners differ from the image")
        require(len(rows) == self._owners.live, "live leaves miscounted")
        for leaf, info in self._infos.items():
            require(self._owners.words[leaf * _WIDTH + _INO] == info.ino, "leaf of another inode")
            require(info.leaves.get(self.index(leaf)) == leaf, "leaf not in its owner's table")
