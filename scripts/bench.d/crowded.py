"""A scenario with a thousand processes on one inode: what a ring that long costs."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from anonfs.client import inspect
from anonfs.inspection import PREFIX
from anonfs.units import PAGE_SIZE
from measure import Metric, Sample
from pages import expect, first_words, mapped
from places import BenchError, Place
from programs import Program, program

__all__ = ["Crowded", "crowd", "look", "seconds_said"]

_LOOKS = 5


@dataclass(frozen=True)
class Crowded:
    """So many processes map one file."""

    count: int

    @property
    def __name__(self) -> str:
        return f"{self.count:,} processes"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Once; all of them are gone at the end."""
        before = place.metadata_bytes()
        with place.scratch() as fd:
            os.ftruncate(fd, self.count * PAGE_SIZE)
            with crowd(fd, self.count) as seconds:
                yield Metric(f"{self.count:,} processes map a file", "ms"), seconds * 1e3
                expect(inspect(fd).counts.areas, self.count, "vm areas")
                for name in ("ring", "count"):
                    metric = Metric(f"reading {PREFIX}{name} with {self.count:,} areas", "ms")
                    yield metric, look(fd, name) * 1e3
                grown = place.metadata_bytes() - before
                yield Metric("metadata of a vm area", "bytes"), grown / self.count
            with mapped(fd, self.count * PAGE_SIZE) as area:
                total = self.count * (self.count + 1) // 2
                expect(int(first_words(area).sum()), total, "pages of a crowd")


def look(fd: int, name: str) -> float:
    """Seconds to read an attribute, the median."""
    seconds = []
    for _ in range(_LOOKS):
        begin = perf_counter()
        os.getxattr(fd, f"{PREFIX}{name}")
        seconds.append(perf_counter() - begin)
    return median(seconds)


@contextlib.contextmanager
def crowd(fd: int, count: int, mappers: int | None = None) -> Iterator[float]:
    """Have so many processes until the end of the block, all of which map a file, or ``mappers``.

    Yields the seconds until they were there.
    """
    most = count if mappers is None else mappers
    with program("crowd", fd, count, most, pass_fds=[fd]) as forked:
        yield seconds_said(forked)


def seconds_said(forked: Program) -> float:
    """The seconds that a program says in its first line. Raises BenchError: it does not."""
    try:
        return float(forked.first)
    except ValueError:
        raise BenchError(f"no crowd: {forked.first}") from None
