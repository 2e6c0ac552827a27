"""Shares: how many page entries more than one name a frame, or a slot.

Nearly everything is named once, so only what is more is counted: the array stays untouched memory
where nothing is shared, and whoever drops a name looks at ``total`` and is done::

    number    1    2    3    4
    named     1    3    0    2        2 more than one, and 1: total is 3
    more      0    2    0    1
"""

import numpy as np
import numpy.typing as npt

from anonfs.errors import require

__all__ = ["Shares"]

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Shares:
    """The shares of numbers up to ``count``; ``total`` is how many names there are more."""

    __slots__ = ("_more", "total")

    def __init__(self, count: int) -> None:
        self._more = np.zeros(count + 1, np.uint32)
        self.total = 0

    def add(self, numbers: Numbers, times: Numbers | None = None) -> None:
        """``times`` more names, or one, for each of ``numbers`` (no number twice)."""
        if times is None:
            self._more[numbers] += np.uint32(1)
            self.total += numbers.size
        else:
            self._more[numbers] += times.astype(np.uint32)
            self.total += int(times.sum())

    def drop(self, numbers: Numbers) -> Mask:
        """One name less for each of ``numbers`` (no number twice); which of them have none now."""
        if not self.total:
            return np.ones(numbers.size, np.bool_)
        last: Mask = self._more[numbers] == 0
        shared = numbers[~last]
        self._more[shared] -= np.uint32(1)
        self.total -= shared.size
        return last

    def forget(self, numbers: Numbers) -> None:
        """``numbers`` have no names any more, however many they had."""
        if self.total:
            self.total -= int(self._more[numbers].sum())
            self._more[numbers] = 0

    def more(self, numbers: Numbers) -> Numbers:
        """How many more names than one each of ``numbers`` has."""
        return self._more[numbers].astype(np.int64)

    def check_invariants(self, named: Numbers) -> None:
        """``named`` has each number once for each of its names."""
        numbers, counts = np.unique(named, return_counts=True)
        require(np.array_equal(self._more[numbers], counts - 1), "names miscounted")
        require(self.total == int(self._more.sum()), "shared names miscounted")
        require(self.total == named.size - numbers.size, "what nobody names is shared")
