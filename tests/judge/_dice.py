"""The distributions that a judge draws from: biased to edges, where the faults are."""

import functools
import random
from collections.abc import Sequence
from typing import TypeVar

from tests.judge._libc import PAGE

__all__ = ["Dice"]

_Item = TypeVar("_Item")
_NOISE = 8 << 20


@functools.cache
def _noise() -> bytes:
    return random.Random(0).randbytes(_NOISE)


class Dice:
    """A seeded source of choices."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    @staticmethod
    def warm_up() -> None:
        """Make the noise now, not within the first operation."""
        _noise()

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self._random.random() < probability

    def one_of(self, items: Sequence[_Item]) -> _Item | None:
        """One of ``items``, or None of none."""
        return self._random.choice(items) if items else None

    def weighted(self, items: Sequence[_Item], cumulated: Sequence[float]) -> _Item:
        """One of ``items`` by cumulated weights."""
        return self._random.choices(items, cum_weights=cumulated)[0]

    def between(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return self._random.randint(low, high)

    def length(self, limit: int) -> int:
        """A number of bytes of an operation, 1 to ``limit``: mostly few pages, some many."""
        span = self.weighted((64, 3 * PAGE, 16 * PAGE, 256 * PAGE), (25, 60, 88, 100))
        length = self.between(1, span)
        if self.chance(0.25):
            length = max(PAGE, length // PAGE * PAGE)
        return min(length, limit)

    def point(self, size: int) -> int:
        """A byte from 0 to ``size``: often at a page boundary or at the end, or next to it."""
        kind = self.between(0, 9)
        if kind < 4:
            return self.between(0, size)
        base = self.between(0, size // PAGE) * PAGE if kind < 8 else size
        return min(size, max(0, base + self.between(-3, 3) * self.between(0, 1)))

    def span(self, size: int) -> tuple[int, int]:
        """A start and a length of at least one byte, within ``size`` > 0 bytes."""
        start = min(self.point(size), size - 1)
        return start, self.length(size - start)

    def data(self, length: int) -> bytes:
        """Bytes to write: mostly noise that occurs nowhere else, some zeros, some of both."""
        kind = self.between(0, 9)
        if kind == 0:
            return bytes(length)
        start = self.between(0, _NOISE - length)
        noise = _noise()[start : start + length]
        if kind == 1 and length > PAGE:
            cut = self.between(1, length)
            return noise[:cut].ljust(length, b"\0")
        return noise
