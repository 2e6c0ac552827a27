"""Scenarios on files under overlays: what nobody has changed is read through the mount.

The peer maps the file itself, in private. Its pages are mapped as they are; those of an overlay are
copied, from the page cache of the file to the daemon, and to the page cache of the overlay.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from anonfs.client import private_file
from anonfs.units import PAGE_SIZE, format_size, pages_for
from measure import Metric, Sample
from pages import expect, first_words, write_pages
from places import Place

__all__ = ["Untouched"]

_MAPS = "mmap of the file"


@dataclass(frozen=True)
class Untouched:
    """Pages of a file of ``size`` bytes are read, which is ``cached`` or has to come from disk.

    Then they are read again, and at last as many pages are stored to for the first time.
    """

    size: int
    cached: bool

    @property
    def __name__(self) -> str:
        where = "cached" if self.cached else "on disk"
        return f"{format_size(self.size)} of a file, {where}"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Three metrics: the first touch, the second, and the first store."""
        where = "in the page cache" if self.cached else "on disk"
        pages = pages_for(self.size)
        with tempfile.TemporaryFile() as file:
            write_pages(file.fileno(), self.size)
            os.fsync(file.fileno())
            if not self.cached:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with _view(place, file.fileno()) as area:
                first = Metric(f"untouched, {where}", "µs/page", target=1.2, peer_does=_MAPS)
                yield first, self._read(area) / pages * 1e6
                again = Metric(f"untouched, {where}, again", "ns/page", target=1.2, peer_does=_MAPS)
                yield again, self._read(area) / pages * 1e9
                store = Metric(f"first store, {where}", "µs/page", peer_does=_MAPS)
                yield store, self._store(area) / pages * 1e6

    def _read(self, area: mmap.mmap) -> float:
        """Seconds for all pages, in order."""
        words = first_words(area)
        begin = perf_counter()
        found = int(words.sum())
        seconds = perf_counter() - begin
        expect(found, words.size * (words.size + 1) // 2, "untouched pages")
        return seconds

    @staticmethod
    def _store(area: mmap.mmap) -> float:
        words = first_words(area)
        begin = perf_counter()
        np.add(words, 1, out=words)
        return perf_counter() - begin


@contextmanager
def _view(place: Place, fd: int) -> Iterator[mmap.mmap]:
    """A mapping that changes no file: an overlay, or where there is no daemon a private one."""
    if place.daemon:
        area: mmap.mmap = private_file(fd, mount=place.directory)
    else:
        area = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE)
    expect(len(area) % PAGE_SIZE, 0, "whole pages")
    with area:
        yield area
