"""Scenarios on sparse giants: a look at a file must cost by its pages, not by its size."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from anonfs.client import inspect
from anonfs.inspection import PREFIX
from anonfs.units import PAGE_SIZE, format_size, pages_for
from measure import Metric, Sample
from pages import expect
from places import Place

__all__ = ["Sparse"]

_SIZES = (1 << 30, 16 << 30, 256 << 30)
_LOOKS = 25
_FLAT = 2.0  # at most, from the smallest to the largest
_PAGES = f"{PREFIX}pages"


@dataclass(frozen=True)
class Sparse:
    """Files of three sizes, empty and with so many pages here and there."""

    scattered: int

    @property
    def __name__(self) -> str:
        return "sparse giants"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Each size, then how the largest compares with the smallest."""
        for pages in (0, self.scattered):
            kind = f"{pages:,} pages" if pages else "empty"
            seconds = []
            for size in _SIZES:
                seconds.append(self._look(place, size, pages))
                name = f"reading {_PAGES}, {format_size(size)}, {kind}"
                yield Metric(name, "µs"), seconds[-1] * 1e6
            name = f"  {format_size(_SIZES[-1])} to {format_size(_SIZES[0])}, {kind}"
            yield Metric(name, "times", bound=_FLAT), seconds[-1] / seconds[0]

    @staticmethod
    def _look(place: Place, size: int, pages: int) -> float:
        """Seconds for one, the median."""
        content = os.urandom(PAGE_SIZE)
        chosen = np.random.default_rng(1).choice(pages_for(size), pages, replace=False)
        with place.scratch() as fd:
            os.ftruncate(fd, size)
            for page in chosen.tolist():
                os.pwrite(fd, content, page * PAGE_SIZE)
            expect(inspect(fd).pages.in_core, pages, "pages in core")
            seconds = []
            for _ in range(_LOOKS):
                begin = perf_counter()
                os.getxattr(fd, _PAGES)
                seconds.append(perf_counter() - begin)
        return median(seconds)
