"""Reclaim: which frames are cold, and how they go to swap.

Cold is decided by a clock, as the kernel knows no better order for what it cannot see: a hand goes
round the arena, a frame that was read or written since the hand last came is passed over once, the
others are picked.

The frames picked are immutable until the I/O ends, so they are written from where they are; a page
that is written meanwhile takes another frame, and the eviction finds it gone. Of the frames that
stay with their pages, those that went to swap are freed, and those that could not be written are
for a later eviction, which gets other slots. A frame that several entries name goes for all of them
at once: they share the slot from then on::

    frames     3    4    5    9           sorted by inode and page
    zeros           x                     becomes NONE, takes no slot, unless it hides a front
    slots     70        71   72           one request where they are neighbours
    written    ✓         ✗    ✓           slot 71 is retired, its page stays in core
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anonfs.mm._entry import Entries, PageState, numbers, on_swap, states
from anonfs.mm._frames import FrameArena, Frames
from anonfs.mm._leaves import ENTRIES_PER_LEAF, LEAF_SHIFT
from anonfs.swap import Transfer, checksums

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo
    from anonfs.mm._memory import Memory

__all__ = ["Clock", "Eviction", "movable"]

_WINDOW = 4096
"""Frames that the hand passes in one step: one vector operation, not one frame."""


class Clock:
    """The hand that goes round the arena."""

    def __init__(self, frames: FrameArena) -> None:
        self._frames = frames
        self._hand: int = 1

    def pick(self, wanted: int) -> Frames:
        """Up to ``wanted`` cold frames; after two rounds even those just referenced are."""
        picked: list[Frames] = []
        passed = 0
        while wanted and passed <= 2 * self._frames.count:
            stop = min(self._hand + _WINDOW, self._frames.count + 1)
            cold, last = self._pass(self._hand, stop, wanted)
            picked.append(cold)
            wanted -= cold.size
            passed += last - self._hand
            self._hand = last if last <= self._frames.count else 1
        found = np.concatenate(picked) if picked else np.empty(0, np.int64)
        if passed > self._frames.count:  # Some may have been met twice.
            found = np.unique(found)
        # Neighbours in a file become neighbours on swap.
        return found[np.argsort(self._frames.owner[found], kind="stable")]

    def _pass(self, start: int, stop: int, wanted: int) -> tuple[Frames, int]:
        """Pick among frames ``start`` to ``stop``; returns them and where the hand came to."""
        cold = np.flatnonzero(self._frames.cold(slice(start, stop)))[:wanted] + start
        if cold.size == wanted:
            stop = int(cold[-1]) + 1
        self._frames.cool(slice(start, stop))
        return cold, stop


class Eviction:
    """Frames on their way to swap. See `Work`; run raises nothing, ``error`` tells.

    Pages of zeros become NONE and take no slot. Where swap has too few slots for the rest, those
    for which there is none stay in core.
    """

    def __init__(self, memory: "Memory", frames: Frames) -> None:
        self._memory = memory
        zeros = _zeros(memory.frames, frames)
        if memory.overlays:
            zeros[zeros] = ~_above_front(memory, frames[zeros])
        filled = frames[~zeros]
        self.slots = memory.swap.allocate(filled.size)
        self._zeros = frames[zeros]
        self._written = filled[: self.slots.size]
        self._overtaken: set[int] = set()
        self._sums = np.empty(0, np.int64)
        self._swapped = np.empty(0, np.int64)
        self._transfer: Transfer | None = None
        memory.frames.begin_io(self._zeros)
        memory.frames.begin_io(self._written)

    @property
    def pages(self) -> int:
        """How many pages can leave core by this; 0 where swap is full."""
        return int(self._zeros.size + self._written.size)

    @property
    def error(self) -> OSError | None:
        """After run, why some pages could not be written; they stay in core."""
        return self._transfer.error if self._transfer is not None else None

    def run(self) -> None:
        """Write the frames to their slots, and make their checksums."""
        arena = self._memory.frames
        self._sums = checksums(arena.pages, self._written)
        self._transfer = self._memory.swap.write_from(self.slots, arena.view, self._written)

    def overtake(self, frames: Frames) -> None:
        """Leave the pages in ``frames`` where they are, whatever is written of them."""
        self._overtaken.update(frames.tolist())

    def finish(self) -> None:
        """Publish the slots of the pages that were written, and free their frames.

        Pages that have been freed or written meanwhile are not in these frames any more.
        """
        if self._transfer is None:
            self.abandon()
            return
        memory, transfer = self._memory, self._transfer
        memory.swap.settle(self.slots, transfer)
        kept = transfer.done & self._still_there(self._written)
        memory.swap.release(self.slots[~kept & ~transfer.failed])
        slots = self.slots[kept]
        self._swapped, which = memory.sharing.names(self._written[kept])
        if which.size > slots.size:
            memory.swap.shares.add(slots, np.bincount(which) - 1)
        self._publish(self._swapped, on_swap(slots, self._sums[kept])[which])
        empty = self._zeros[self._still_there(self._zeros)]
        positions, _ = memory.sharing.names(empty)
        self._publish(positions, np.zeros(positions.size, np.int64))
        memory.frames.release(self._written[kept])
        memory.frames.release(empty)
        self._end()
        memory.counters.evictions += 1
        memory.counters.swapped_out += slots.size
        memory.counters.zero_pages += empty.size

    def swapped(self) -> "list[tuple[AnonInodeInfo, int, int]]":
        """The pages that are on swap now: runs of an inode's, the first page and their count.

        To be asked right after finish, before anything else happens to the pages.
        """
        leaves, positions = self._memory.leaves, self._swapped
        begins = (np.diff(positions, prepend=-1) != 1) | (positions % ENTRIES_PER_LEAF == 0)
        starts = np.flatnonzero(begins)
        runs = []
        for start, count in zip(starts, np.diff(starts, append=positions.size), strict=True):
            leaf, low = divmod(int(positions[start]), ENTRIES_PER_LEAF)
            first = leaves.index(leaf) * ENTRIES_PER_LEAF + low
            runs += [(info, first, int(count)) for info in leaves.owners(leaf)]
        return _joined(runs)

    def abandon(self) -> None:
        """Leave every page where it is."""
        self._memory.swap.release(self.slots)
        self._end()

    def _end(self) -> None:
        self._memory.frames.end_io(self._zeros)
        self._memory.frames.end_io(self._written)
        self._memory.evictions.discard(self)

    def _still_there(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """Which of ``frames`` hold a page: one that is in I/O is not taken for another."""
        there: npt.NDArray[np.bool_] = self._memory.frames.owner[frames] != 0
        if self._overtaken:
            there &= ~np.isin(frames, list(self._overtaken))
        return there

    def _publish(self, positions: Entries, entries: Entries) -> None:
        """Store ``entries``, of pages that were in core, at ``positions``, which are ascending."""
        if not entries.size:
            return
        leaves, gone = self._memory.leaves, not entries[0]
        leaves.entries[positions] = entries
        for leaf, count in _tally(positions >> LEAF_SHIFT):
            index = leaves.index(leaf)
            for info in leaves.owners(leaf):
                info.in_core -= count
                if gone:
                    info.release_if_empty(index)
                else:
                    info.on_swap += count


def _joined(
    runs: "list[tuple[AnonInodeInfo, int, int]]",
) -> "list[tuple[AnonInodeInfo, int, int]]":
    """Runs of pages in order, neighbours made one: leaves are in no order of their own."""
    joined: list[tuple[AnonInodeInfo, int, int]] = []
    for info, first, count in sorted(runs, key=lambda run: (run[0].ino, run[1])):
        if joined and joined[-1][0] is info and sum(joined[-1][1:]) == first:
            joined[-1] = info, joined[-1][1], joined[-1][2] + count
        else:
            joined.append((info, first, count))
    return joined


def _tally(ascending: Entries) -> list[tuple[int, int]]:
    """(number, how often) of sorted numbers."""
    starts = np.flatnonzero(np.diff(ascending, prepend=-1))
    counts = np.diff(starts, append=ascending.size)
    return list(zip(ascending[starts].tolist(), counts.tolist(), strict=True))


def _zeros(arena: FrameArena, frames: Frames) -> npt.NDArray[np.bool_]:
    """Which of ``frames`` are zeros; only those whose first word is are looked at in full."""
    zeros: npt.NDArray[np.bool_] = arena.words[frames, 0] == 0
    if zeros.any():
        zeros[zeros] = ~arena.words[frames[zeros]].any(axis=1)
    return zeros


def _above_front(memory: "Memory", frames: Frames) -> npt.NDArray[np.bool_]:
    """Which of ``frames`` are of inodes with a front; copies of an inode have the same one."""
    leaves, at = np.unique(memory.frames.owner[frames] >> LEAF_SHIFT, return_inverse=True)
    owners = (memory.leaves.owners(leaf)[0] for leaf in leaves.tolist())
    return np.array([owner.front is not None for owner in owners], np.bool_)[at]


def movable(frames: FrameArena, entries: Entries) -> Entries:
    """Which of ``entries`` name a frame that may go to swap now."""
    held = np.flatnonzero(states(entries) == PageState.IN_CORE)
    return held[frames.movable(numbers(entries[held]))]
