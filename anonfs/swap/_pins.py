"""Pins: the slots that are being read now.

A few of millions at any time, so they are sets and no arrays. A slot is seldom read twice at once,
and all that happens otherwise is one set operation for any number of slots::

    pinned   {7, 8, 9}      being read
    again    {8: 1}         and by how many more
"""

from collections import Counter

import numpy as np
import numpy.typing as npt

from anonfs.errors import require

__all__ = ["Pins"]

Slots = npt.NDArray[np.int64]


class Pins:
    """Counts the readers of slots."""

    __slots__ = ("_again", "_pinned")

    def __init__(self) -> None:
        self._pinned: set[int] = set()
        self._again: Counter[int] = Counter()

    def add(self, slots: Slots) -> None:
        """One more reader for each of ``slots`` (no number twice)."""
        names = slots.tolist()
        self._again.update(self._pinned.intersection(names))
        self._pinned.update(names)

    def remove(self, slots: Slots) -> set[int]:
        """One reader less for each; returns those that have none now."""
        names = set(slots.tolist())
        require(names <= self._pinned, "slot unpinned that was not pinned")
        again = self._again.keys() & names
        self._again.subtract(again)
        self._again = +self._again if again else self._again
        names -= again
        self._pinned -= names
        return names

    def add_one(self, slot: int) -> None:
        """One more reader for ``slot``, in a fifth of the time."""
        if slot in self._pinned:
            self._again[slot] += 1
        else:
            self._pinned.add(slot)

    def remove_one(self, slot: int) -> bool:
        """One reader less for ``slot``; whether it has none now."""
        require(slot in self._pinned, "slot unpinned that was not pinned")
        if slot in self._again:
            self._again[slot] -= 1
            if not self._again[slot]:
                del self._again[slot]
            return False
        self._pinned.discard(slot)
        return True

    def pinned(self, slots: Slots) -> npt.NDArray[np.bool_]:
        """Which of ``slots`` have a reader."""
        if not self._pinned:
            return np.zeros(slots.size, np.bool_)
        return np.fromiter(map(self._pinned.__contains__, slots.tolist()), np.bool_, slots.size)

    def check_invariants(self) -> None:
        """Who is read again is read."""
        require(self._again.keys() <= self._pinned, "a slot is read again that is not read")
        require(all(more > 0 for more in self._again.values()), "a slot has no more readers")
