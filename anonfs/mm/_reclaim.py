"""Reclaim: which frames are cold, and how they go to swap.

Cold is decided by a clock, as the kernel knows no better order for what it cannot see: a hand goes
round the arena, a frame that was read or written since the hand last came is passed over once, the
others are picked. The pages picked are copied out at one instant, so that what is written to swap
is what the pages were then; a page that is written while its copy is on the way stays in core.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anonfs.mm._entry import Entries, PageState, numbers, on_swap, states
from anonfs.mm._frames import FrameArena, Frames
from anonfs.mm._leaves import LEAF_SHIFT

if TYPE_CHECKING:
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
        found = np.unique(np.concatenate(picked)) if picked else np.empty(0, np.int64)
        # Neighbours in a file become neighbours on swap.
        return found[np.argsort(self._frames.owner[found], kind="stable")]

    def _pass(self, start: int, stop: int, wanted: int) -> tuple[Frames, int]:
        """Pick among frames ``start`` to ``stop``; returns them and where the hand came to."""
        frames = self._frames
        idle = (frames.owner[start:stop] != 0) & ~frames.in_io[start:stop]
        cold = np.flatnonzero(idle & ~frames.referenced[start:stop])[:wanted] + start
        if cold.size == wanted:
            stop = int(cold[-1]) + 1
        frames.referenced[start:stop] = False
        return cold, stop


class Eviction:
    """Frames on their way to swap. See `Work`.

    Pages of zeros become NONE and take no slot. Where swap has too few slots for the rest, those
    for which there is none stay in core.
    """

    def __init__(self, memory: "Memory", frames: Frames) -> None:
        self._memory = memory
        snapshot = memory.frames.copy(frames)
        filled = np.bitwise_or.reduce(snapshot.view(np.int64), axis=1) != 0
        self.slots = memory.swap.allocate(int(np.count_nonzero(filled)))
        with_slot = np.flatnonzero(filled)[: self.slots.size]
        if with_slot.size < frames.size:
            snapshot = memory.frames.copy(frames[with_slot])
        self._snapshot = snapshot
        self._zeros = frames[~filled]
        self._written = frames[with_slot]
        self._zero_positions = self._owners(self._zeros)
        self._positions = self._owners(self._written)
        memory.frames.begin_io(self._zeros)
        memory.frames.begin_io(self._written)

    def _owners(self, frames: Frames) -> Entries:
        return self._memory.frames.owner[frames].astype(np.int64)

    @property
    def pages(self) -> int:
        """How many pages can leave core by this; 0 where swap is full."""
        return int(self._zeros.size + self._written.size)

    def run(self) -> None:
        """Write the copies to their slots."""
        if self.slots.size:
            self._memory.swap.write_from(self.slots, self._snapshot.data.cast("B"))

    def finish(self) -> None:
        """Publish the slots of the pages that did not change, and free their frames."""
        kept = self._unchanged(self._written, self._positions)
        self._memory.swap.release(self.slots[~kept])
        self._publish(self._written[kept], self._positions[kept], on_swap(self.slots[kept]))
        empty = self._unchanged(self._zeros, self._zero_positions)
        positions = self._zero_positions[empty]
        self._publish(self._zeros[empty], positions, np.zeros(positions.size, np.int64))
        self._end()

    def abandon(self) -> None:
        """Leave every page where it is."""
        self._memory.swap.release(self.slots)
        self._end()

    def _end(self) -> None:
        self._memory.frames.end_io(self._zeros)
        self._memory.frames.end_io(self._written)
        self._memory.evictions.discard(self)

    def _unchanged(self, frames: Frames, positions: Entries) -> npt.NDArray[np.bool_]:
        arena = self._memory.frames
        unchanged: npt.NDArray[np.bool_] = (arena.owner[frames] == positions) & ~arena.redirtied[
            frames
        ]
        return unchanged

    def _publish(self, frames: Frames, positions: Entries, entries: Entries) -> None:
        memory = self._memory
        memory.leaves.entries[positions] = entries
        memory.frames.release(frames)
        leaves, pages = np.unique(positions >> LEAF_SHIFT, return_counts=True)
        gone = bool(entries.size) and not entries[0]
        for leaf, count in zip(leaves.tolist(), pages.tolist(), strict=True):
            info = memory.leaves.owner(leaf)
            info.in_core -= count
            if gone:
                info.release_if_empty(memory.leaves.index(leaf))
            else:
                info.on_swap += count


def movable(frames: FrameArena, entries: Entries) -> Frames:
    """The frames that ``entries`` name and that may go to swap now."""
    held = numbers(entries[states(entries) == PageState.IN_CORE])
    return held[~frames.in_io[held]]
