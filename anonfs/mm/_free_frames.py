"""Free frames: two stacks in one array, of those that have memory and of those that have none.

A frame has memory from its first touch until it is *trimmed*. One that has some is taken first, the
last to be freed before the others: that costs no first touch, and a frame that rests at the bottom
is one that could be given back to the system::

    resident stack ──▶ top                      top ◀── the others
    ┌────┬────┬────┬──────────────────────────┬───┬───┬───┐
    │ 12 │ 11 │ 10 │                          │ 7 │ 8 │ 9 │    next: 10, 11, 12, 7, 8, 9
    └────┴────┴────┴──────────────────────────┴───┴───┴───┘

What is freed is pushed in descending order, so that it comes back as ascending neighbours.
"""

import numpy as np
import numpy.typing as npt

from anonfs.errors import require

__all__ = ["FreeFrames"]

Frames = npt.NDArray[np.int64]


class FreeFrames:
    """The free of ``count`` frames, at first all of them and none with memory."""

    __slots__ = ("_frames", "_others", "resident")

    def __init__(self, count: int) -> None:
        self._frames = np.arange(1, count + 1, dtype=np.uint32)
        self.resident = 0
        self._others = 0  # where their top is

    def __len__(self) -> int:
        return self.resident + self.without_memory

    @property
    def without_memory(self) -> int:
        """How many have none."""
        return self._frames.size - self._others

    def pop(self, wanted: int) -> Frames:
        """Take ``wanted``, of which there are as many."""
        ready = min(wanted, self.resident)
        fresh = wanted - ready
        taken = np.empty(wanted, np.int64)
        taken[:ready] = self._frames[self.resident - ready : self.resident][::-1]
        taken[ready:] = self._frames[self._others : self._others + fresh]
        self.resident -= ready
        self._others += fresh
        return taken

    def push(self, frames: Frames) -> None:
        """Free ``frames``, which have memory."""
        self._frames[self.resident : self.resident + frames.size] = np.sort(frames)[::-1]
        self.resident += frames.size

    def bottom(self, wanted: int) -> Frames:
        """Up to ``wanted`` resident frames that have rested longest, ascending; they stay."""
        return np.sort(self._frames[: min(wanted, self.resident)]).astype(np.int64)

    def strip_bottom(self, count: int) -> None:
        """The ``count`` resident frames at the bottom have no memory any more."""
        stripped = np.sort(self._frames[:count])
        self._frames[: self.resident - count] = self._frames[count : self.resident]
        self.resident -= count
        self._others -= count
        self._frames[self._others : self._others + count] = stripped

    def note_memory(self, first: int, stop: int) -> None:
        """Those from ``first`` to before ``stop`` have memory now."""
        others = self._frames[self._others :]
        found = (others >= first) & (others < stop)
        populated, rest = others[found], others[~found]
        self._others = self._frames.size - rest.size
        self._frames[self._others :] = rest
        # Under those that were used: they are the ones to give back, if any.
        self._frames[populated.size : populated.size + self.resident] = self._frames[
            : self.resident
        ].copy()
        self._frames[: populated.size] = np.sort(populated)[::-1]
        self.resident += populated.size

    def check_invariants(self, idle: Frames) -> None:
        """``idle`` are all frames, ascending, that are neither owned nor in I/O."""
        require(self.resident <= self._others, "the stacks of free frames overlap")
        free = np.concatenate((self._frames[: self.resident], self._frames[self._others :]))
        require(np.array_equal(np.sort(free), idle), "free frames miscounted")
