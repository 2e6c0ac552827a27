"""Freeing: pages go, and with them what they were in.

A leaf is freed as a whole where all of its pages go, many leaves at a time; where others share it,
it is left to them. So to delete an inode costs by the leaf, and mostly nothing by the page::

    pages 300 to 2000     ├── a part ──┼── whole ──┼── whole ──┼── a part ──┤
    leaf                  0            1           2           3
                          own it first, for it may be shared: the one thing that can fail
"""

import numpy as np

from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._entry import Entries, PageState, numbers, states
from anonfs.mm._frames import FrameArena
from anonfs.mm._leaves import ENTRIES_PER_LEAF, LEAF_SHIFT, Leaves, batches
from anonfs.mm._sharing import Sharing
from anonfs.swap import SwapArea

__all__ = ["Freeing"]

_TO_THE_END = 1 << 62
"""More pages than there can be."""


class Freeing:
    """Takes frames, slots and leaves back from page tables."""

    def __init__(
        self, frames: FrameArena, swap: SwapArea, leaves: Leaves, sharing: Sharing
    ) -> None:
        self._frames = frames
        self._swap = swap
        self._leaves = leaves
        self._sharing = sharing

    def clear(self, info: AnonInodeInfo, first: int = 0, count: int = _TO_THE_END) -> None:
        """Free ``count`` pages from ``first``: they do not exist from now on.

        Raises:
            AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
        """
        edges, whole = info.parts(first, count)
        for part in edges:
            self._sharing.own(info, *part)
        for part in edges:
            for span in info.spans(*part):
                old = span.entries.copy()
                span.entries[:] = 0
                self.release(info, old)
                info.release_if_empty(span.first >> LEAF_SHIFT)
        for batch in batches(whole):
            shared = [index for index in batch if self._leaves.is_shared(info.leaves[index])]
            self._give_up(info, shared)
            self._clear_leaves(info, [index for index in batch if index not in shared])

    def clear_some(self, info: AnonInodeInfo, pages: dict[int, Entries]) -> None:
        """Free pages that exist: by leaf, their places in it. Raises AnonfsError: as `clear`."""
        for index, rows in pages.items():
            first = index << LEAF_SHIFT
            if rows.size < np.count_nonzero(info.entries(first, ENTRIES_PER_LEAF)):
                self._sharing.own(info, first, ENTRIES_PER_LEAF)
        for index, rows in pages.items():
            if self._leaves.is_shared(info.leaves[index]):
                self._give_up(info, [index])
                continue
            span = next(info.spans(index << LEAF_SHIFT, ENTRIES_PER_LEAF))
            old = span.entries[rows]
            span.entries[rows] = 0
            self.release(info, old)
            info.release_if_empty(index)

    def _clear_leaves(self, info: AnonInodeInfo, indexes: list[int]) -> None:
        """Free all pages of leaves that are shared with nobody."""
        rows = [info.leaves[index] for index in indexes]
        old = self._leaves.table[rows].ravel()
        self._leaves.table[rows] = 0
        self.release(info, old)
        info.give_back(indexes)

    def _give_up(self, info: AnonInodeInfo, indexes: list[int]) -> None:
        """Leave leaves that are shared to their other owners."""
        entries = self._leaves.table[[info.leaves[index] for index in indexes]].ravel()
        kinds = states(entries)
        frames = numbers(entries[kinds == PageState.IN_CORE])
        info.in_core -= frames.size
        info.on_swap -= int(np.count_nonzero(kinds == PageState.ON_SWAP))
        info.give_back(indexes)
        if info.locked:
            self._frames.unlock(frames)
            self._sharing.lock_again(frames)

    def release(self, info: AnonInodeInfo, entries: Entries) -> None:
        """Take back what pages of ``info`` were in, whose ``entries`` those were."""
        kinds = states(entries)
        frames = numbers(entries[kinds == PageState.IN_CORE])
        slots = numbers(entries[kinds == PageState.ON_SWAP])
        if info.locked:
            self._frames.unlock(frames)
        shared = self._frames.drop(frames)
        self._sharing.find_owners(shared)
        if info.locked:
            self._sharing.lock_again(shared)
        self._swap.release(slots)
        info.in_core -= frames.size
        info.on_swap -= slots.size
