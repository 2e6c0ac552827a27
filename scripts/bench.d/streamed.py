"""Scenarios on read(2) and write(2), and what they cost the daemon in CPU time.

Only the calls are timed: making the data and comparing it are not.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

from anonfs.units import PAGE_SIZE, format_size
from measure import Better, Metric, Sample
from pages import MIB, Words, expect, first_words, random_block, stamp
from places import Place

__all__ = ["SCENARIOS"]

_SIZE = 256 * MIB


@dataclass(frozen=True)
class _Stream:
    """Reads and writes in blocks of ``block`` bytes."""

    block: int

    @property
    def __name__(self) -> str:
        return f"streams of {format_size(self.block)}"

    def __call__(self, place: Place) -> Iterator[Sample]:
        with place.scratch() as fd:
            yield from self._sampled(place, fd, "write(2)", self._write)
            warm = f"read(2) {format_size(self.block)}, in the page cache"
            yield Metric(warm, "MiB/s", Better.HIGHER), _rate(self._read(fd))
            place.empty_cache(fd, _SIZE)
            yield from self._sampled(place, fd, "read(2)", self._read)

    def _sampled(
        self, place: Place, fd: int, call: str, work: Callable[[int], float]
    ) -> Iterator[Sample]:
        before = place.cpu_seconds()
        seconds = work(fd)
        cpu = place.cpu_seconds() - before
        name = f"{call} {format_size(self.block)}"
        yield Metric(name, "MiB/s", Better.HIGHER), _rate(seconds)
        if place.daemon:
            yield Metric(f"{name}, daemon's CPU time", "µs/MiB"), cpu / (_SIZE / MIB) * 1e6

    def _write(self, fd: int) -> float:
        data, seconds = random_block(self.block), 0.0
        for offset in range(0, _SIZE, self.block):
            stamp(data, offset // PAGE_SIZE)
            begin = perf_counter()
            written = os.pwrite(fd, data.data, offset)
            seconds += perf_counter() - begin
            expect(written, self.block, "write")
        return seconds

    def _read(self, fd: int) -> float:
        data, seconds = random_block(self.block), 0.0
        into = [data.data]
        for offset in range(0, _SIZE, self.block):
            begin = perf_counter()
            got = os.preadv(fd, into, offset)
            seconds += perf_counter() - begin
            expect(got, self.block, "read")
            expect(int(first_words(data).sum()), _sum_from(offset // PAGE_SIZE, data), "read")
        return seconds


def _sum_from(page: int, block: Words) -> int:
    """What the first words of ``block`` add up to if it is the pages from ``page`` on."""
    count = block.nbytes // PAGE_SIZE
    return count * (page + 1) + count * (count - 1) // 2


def _rate(seconds: float) -> float:
    return _SIZE / MIB / seconds


SCENARIOS = (_Stream(64 << 10), _Stream(1 << 20))
"""What to run, one a block size."""
