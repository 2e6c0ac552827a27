"""Ranges: a set of page indexes that costs by the range, however large.

They neither overlap nor touch, and are in order::

    add(10, 20), add(30, 40)      10 ── 20        30 ── 40
    add(18, 30)                   10 ───────────────── 40
    remove(12, 35)                10 ─ 12            35 ─ 40
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise

from anonfs.errors import require

__all__ = ["Ranges"]


class Ranges:
    """Whole numbers; a range is from its first one to before its end."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, in order: from, to before."""
        return zip(self._starts, self._ends, strict=True)

    def copy(self) -> "Ranges":
        """Another one of the same numbers."""
        copy = Ranges()
        copy._starts, copy._ends = self._starts.copy(), self._ends.copy()
        return copy

    def add(self, first: int, end: int) -> None:
        """Have all from ``first`` to before ``end``."""
        if first >= end:
            return
        at, beyond = bisect_left(self._ends, first), bisect_right(self._starts, end)
        if at < beyond:
            first, end = min(first, self._starts[at]), max(end, self._ends[beyond - 1])
        self._starts[at:beyond] = [first]
        self._ends[at:beyond] = [end]

    def cut(self, end: int) -> None:
        """Have none from ``end`` on."""
        kept = bisect_left(self._starts, end)
        del self._starts[kept:], self._ends[kept:]
        if self._ends and self._ends[-1] > end:
            self._ends[-1] = end

    def remove(self, first: int, end: int) -> None:
        """Have none from ``first`` to before ``end``."""
        if first >= end:
            return
        at, beyond = bisect_right(self._ends, first), bisect_left(self._starts, end)
        if at >= beyond:
            return
        left = (self._starts[at], first), (end, self._ends[beyond - 1])
        kept = [bounds for bounds in left if bounds[0] < bounds[1]]
        self._starts[at:beyond] = [start for start, _ in kept]
        self._ends[at:beyond] = [stop for _, stop in kept]

    def remove_all(self, others: "Ranges") -> None:
        """Have none of ``others``."""
        for first, end in others:
            self.remove(first, end)

    def within(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of ranges that are from ``first`` to before ``end``, in order."""
        for at in range(bisect_right(self._ends, first), bisect_left(self._starts, end)):
            yield max(first, self._starts[at]), min(end, self._ends[at])

    def count(self, first: int, end: int) -> int:
        """How many there are from ``first`` to before ``end``."""
        return sum(stop - start for start, stop in self.within(first, end))

    def check_invariants(self) -> None:
        """They are in order, and apart."""
        bounds = [bound for pair in self for bound in pair]
        apart = all(one < other for one, other in pairwise(bounds))
        require(apart, "ranges touch, or are empty")
