"""Sharing: copy-on-write copies of an inode, and who names a frame or a slot then.

The seed's dup for private mappings. Two things can be shared. A *lazy* copy shares whole leaves
with its source, as fork could share page tables: one reference for 512 pages. Whoever is the first
to change an entry of one, on either side, gets a copy of that leaf. An *eager* copy has copies of
all leaves at once. Copies of a leaf share what their entries name, frames and slots, each by a
count of the entries that name it. Nothing that is shared is ever written to::

    inode 7   inode 8            inode 9
       └───┬─────┘                  │          8 is a lazy copy of 7: one leaf, two owners
        leaf 1  ◀──── kin ────▶  leaf 5        9 is an eager copy: leaves of its own
        ┌──┬──┐                  ┌──┬──┐
        │ 3│ 4│                  │ 3│ 6│       then 9 wrote to its second page
        └──┴──┘                  └──┴──┘
    frame 3 is named twice and owned by a position of leaf 1; frames 4 and 6 are named once

The reverse map is in the leaves. A copy has each page where its source has it, so whoever names a
frame has it at the same place of a leaf that is of the same *kin*: copies of it and of each other,
at any distance. A frame's owner is one of its names, as if there were no others, and to find the
others takes one vector comparison for each of the kin, for all pages of a leaf together, and only
where a frame is shared. It costs no memory for a page, where a list of owners for each frame would;
it costs time where one leaf was copied thousands of times. It is needed when a shared frame goes to
swap, and when its owner gives it up and another name has to become the owner. Slots need none: to
read one changes no entry. An entry in between, which all sharers would name, would cost every
access one more step, for the sake of an eviction.

Leaves with several owners need nothing of it: an entry of theirs is one name, whoever owns it.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from anonfs.errors import require
from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._entry import Entries, PageState, in_core, numbers, states
from anonfs.mm._frames import FrameArena, Frames
from anonfs.mm._leaves import ENTRIES_PER_LEAF, LEAF_SHIFT, Leaves, batches
from anonfs.swap import SwapArea

__all__ = ["Sharing"]


class Sharing:
    """What the page tables of a mount have in common."""

    def __init__(self, frames: FrameArena, swap: SwapArea, leaves: Leaves) -> None:
        self._frames = frames
        self._swap = swap
        self._leaves = leaves

    # -- copying ---------------------------------------------------------------------------

    def clone(self, source: AnonInodeInfo, copy: AnonInodeInfo, *, lazy: bool) -> None:
        """Let ``copy``, which is empty, have all pages of ``source``.

        Raises:
            AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
        """
        if lazy:
            self._leaves.require_room(0, len(source.leaves))
            for leaf in source.leaves.values():
                self._leaves.share(leaf, copy)
            copy.leaves.update(source.leaves)
        else:
            self._leaves.require_room(len(source.leaves))
            self._copy(source.leaves, copy)
        copy.in_core, copy.on_swap = source.in_core, source.on_swap

    def own(self, info: AnonInodeInfo, first: int, count: int) -> None:
        """See to it that ``info`` shares no leaf of ``count`` pages from ``first``.

        Raises:
            AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
        """
        if not self._leaves.sharers:
            return
        found = {
            span.first >> LEAF_SHIFT: self._leaf(span.position) for span in info.spans(first, count)
        }
        shared = {index: leaf for index, leaf in found.items() if self._leaves.is_shared(leaf)}
        self._leaves.require_room(len(shared))
        self._copy(shared, info)
        for leaf in shared.values():
            self._leaves.drop(leaf, info)

    def _copy(self, sources: dict[int, int], info: AnonInodeInfo) -> None:
        """Let ``info`` have copies of leaves, by index; there is room for them."""
        for batch in batches(list(sources)):
            copies, entries = self._leaves.copy({index: sources[index] for index in batch}, info)
            kinds = states(entries)
            self._frames.share(numbers(entries[kinds == PageState.IN_CORE]))
            self._swap.shares.add(numbers(entries[kinds == PageState.ON_SWAP]))
            info.leaves.update(copies)

    # -- the reverse map -------------------------------------------------------------------

    def names(self, frames: Frames) -> tuple[Entries, Entries]:
        """The positions that name ``frames``, ascending, and which of ``frames`` each names."""
        positions = self._frames.owner[frames].astype(np.int64)
        which = np.arange(frames.size)
        if self._frames.shares.total and frames.size:
            others = list(self._others(frames, self._frames.shares.more(frames)))
            positions = np.concatenate([positions, *(found for _, found in others)])
            which = np.concatenate([which, *(rows for rows, _ in others)])
        order = np.argsort(positions, kind="stable")
        return positions[order], which[order]

    def find_owners(self, frames: Frames) -> None:
        """One entry less names each of ``frames``, and if it was the owner another one is now."""
        if not frames.size:
            return
        owners = self._leaves.entries[self._frames.owner[frames]]
        lost = frames[owners != in_core(frames)]
        found = 0
        for rows, positions in self._others(lost, np.ones(lost.size, np.int64)):
            self._frames.owner[lost[rows]] = positions
            found += rows.size
        require(found == lost.size, "a shared frame has no name")

    def locked(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """Which of ``frames`` belong to an inode that is locked, among others."""
        positions, which = self.names(frames)
        leaves, at = np.unique(positions >> LEAF_SHIFT, return_inverse=True)
        kept = [any(i.locked for i in self._leaves.owners(leaf)) for leaf in leaves.tolist()]
        found = np.zeros(frames.size, np.bool_)
        found[which[np.array(kept, np.bool_)[at]]] = True
        return found

    def lock_again(self, frames: Frames) -> None:
        """Keep those of ``frames``, which were unlocked for one inode, that others have locked."""
        self._frames.lock(frames[self.locked(frames)])

    def _others(self, frames: Frames, wanted: Entries) -> Iterator[tuple[Entries, Entries]]:
        """As many names as ``wanted`` of each of ``frames``, its owner not among them.

        In pieces: which of ``frames``, and at which positions they are named.
        """
        rows = np.flatnonzero(wanted)
        owners = self._frames.owner[frames[rows]].astype(np.int64)
        order = np.argsort(owners >> LEAF_SHIFT, kind="stable")
        rows, owners = rows[order], owners[order]
        missing, entries = wanted[rows], in_core(frames[rows])
        leaves, at = _runs(owners >> LEAF_SHIFT)
        kin = [filter(leaf.__ne__, self._leaves.kin(leaf)) for leaf in leaves.tolist()]
        # The next of the kin of each leaf in each round, and all pages together.
        while rows.size:
            following = np.zeros(leaves.size, np.int64)
            for number in _runs(at)[0].tolist():
                following[number] = next(kin[number], 0)
            if not following.any():
                return
            positions = (following[at] << LEAF_SHIFT) + (owners & (ENTRIES_PER_LEAF - 1))
            named = self._leaves.entries[positions] == entries
            yield rows[named], positions[named]
            missing = missing - named
            left = missing > 0
            rows, owners, missing, entries, at = (
                found[left] for found in (rows, owners, missing, entries, at)
            )

    @staticmethod
    def _leaf(position: int) -> int:
        return int(position) >> LEAF_SHIFT


def _runs(ascending: Entries) -> tuple[Entries, Entries]:
    """The values of an array, each once, and for each of its elements which of them it is."""
    changes = np.diff(ascending, prepend=-1) != 0
    return ascending[changes], np.cumsum(changes) - 1
