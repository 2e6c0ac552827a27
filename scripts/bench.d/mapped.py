"""Scenarios on mappings: pages that are loaded, pages that must be, pages that get dirty.

One word a page is touched, in a loop inside numpy: what shows is the page, not the interpreter.
"""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from anonfs.units import PAGE_SIZE, pages_for
from measure import Metric, Sample
from pages import MIB, ColdFile, Words, cold_file, expect, first_words, mapped, write_pages
from places import Place

__all__ = ["PageIn", "RandomFaults", "cold", "dirty", "resident"]

_RESIDENT = 64 * MIB
_COLD = 256 * MIB
_DIRTY = 128 * MIB
_PASSES = 21

_HOLES = "first touch of a hole"
_READ = Metric("resident page, read", "ns/page", target=1.05)
_WRITE = Metric("resident page, write", "ns/page", target=1.05)
_PAGE_IN = Metric("sequential page-in", "µs/page", target=1.0, peer_does=_HOLES)
_RANDOM = Metric("random fault, MADV_RANDOM", "µs/fault", peer_does=_HOLES)
_AROUND = Metric("random fault, no advice", "µs/fault", peer_does=_HOLES)
_DIRTY_FRESH = Metric(f"dirty {_DIRTY // MIB} MiB of holes", "ms")
_DIRTY_AGAIN = Metric(f"dirty {_DIRTY // MIB} MiB again", "ms")
_MSYNC = Metric("msync of that", "ms")


def resident(place: Place) -> Iterator[Sample]:
    """Pages whose PTEs are there: anonfs has no part in them, and must not have."""
    with place.scratch() as fd:
        write_pages(fd, _RESIDENT)
        with mapped(fd, _RESIDENT) as area:
            yield _READ, _resident_read(area)
            yield _WRITE, _resident_write(area)


def _resident_read(area: mmap.mmap) -> float:
    """Nanoseconds a page."""
    words = first_words(area)
    expected = words.size * (words.size + 1) // 2
    seconds = []
    for _ in range(1 + _PASSES):
        begin = perf_counter()
        found = int(words.sum())
        seconds.append(perf_counter() - begin)
        expect(found, expected, "resident pages")
    return median(seconds[1:]) / words.size * 1e9


def _resident_write(area: mmap.mmap) -> float:
    """Nanoseconds a page."""
    words = first_words(area)
    before = int(words.sum())
    seconds = []
    for _ in range(1 + _PASSES):
        begin = perf_counter()
        np.add(words, 1, out=words)
        seconds.append(perf_counter() - begin)
    expect(int(words.sum()) - before, words.size * len(seconds), "resident pages")
    return median(seconds[1:]) / words.size * 1e9


@dataclass(frozen=True)
class PageIn:
    """Takes pages that the daemon has in their order; a metric of µs/page, or of MiB/s."""

    metric: Metric

    @property
    def __name__(self) -> str:
        return "page_in"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Once, on a file of its own."""
        with cold_file(place, _COLD) as file:
            seconds = _touch(file, file.all_pages, mmap.MADV_NORMAL)
            in_rate = PAGE_SIZE / MIB / seconds
            yield self.metric, in_rate if self.metric.unit == "MiB/s" else seconds * 1e6


@dataclass(frozen=True)
class RandomFaults:
    """Takes pages that the daemon has in no order, with the kernel's read-ahead or without."""

    metric: Metric
    advice: int
    faults: int

    @property
    def __name__(self) -> str:
        return "random_faults"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Once, on a file of its own."""
        with cold_file(place, _COLD) as file:
            pages = np.random.default_rng(1).permutation(pages_for(_COLD))[: self.faults]
            yield self.metric, _touch(file, pages, self.advice) * 1e6


def _touch(file: ColdFile, pages: Words, advice: int) -> float:
    """Seconds a page for reading a word of each of ``pages``, in that order."""
    with mapped(file.fd, file.size) as area:
        area.madvise(advice)
        words = first_words(area)
        begin = perf_counter()
        found = words[pages]  # take() would copy, and so touch, all of them first
        seconds = perf_counter() - begin
        del words  # or the area could not be unmapped
    expect(int(found.sum()), file.sum_of(pages), "cold pages")
    return seconds / pages.size


def dirty(place: Place) -> Iterator[Sample]:
    """All bytes of a mapping written and synchronised, twice; they must outlast the page cache."""
    pages = pages_for(_DIRTY)
    with place.scratch() as fd:
        os.ftruncate(fd, _DIRTY)
        with mapped(fd, _DIRTY) as area:
            yield _DIRTY_FRESH, _fill(area, 1) * 1e3
            begin = perf_counter()
            area.flush()
            if place.daemon:  # on tmpfs there is nothing to write back
                yield _MSYNC, (perf_counter() - begin) * 1e3
            yield _DIRTY_AGAIN, _fill(area, 2) * 1e3
        place.empty_cache(fd, _DIRTY)
        with mapped(fd, _DIRTY) as area:
            expect(int(first_words(area).sum()), pages * (pages - 1) // 2 + 2 * pages, "dirtied")


def _fill(area: mmap.mmap, first: int) -> float:
    """Seconds to write ``first`` plus its number into every word of every page."""
    numbers = np.arange(first, first + pages_for(len(area)))
    begin = perf_counter()
    np.frombuffer(area, np.int64).reshape(-1, PAGE_SIZE // 8)[:] = numbers[:, None]
    return perf_counter() - begin


cold = (
    PageIn(_PAGE_IN),
    RandomFaults(_RANDOM, mmap.MADV_RANDOM, 4096),
    RandomFaults(_AROUND, mmap.MADV_NORMAL, 256),
)
"""Pages in core that are not loaded: in order, in no order, and so with read-ahead."""
