"""Scenarios on the daemon's own memory: what a page and an inode take besides their contents."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from anonfs.client import inspect, swap_out
from anonfs.units import PAGE_SIZE, format_size, pages_for
from measure import Better, Metric, Sample
from pages import MIB, expect, first_words, mapped, write_pages
from places import Place

__all__ = ["FullFile", "ManyInodes"]

_WARM_UP = 64 * MIB
_FEW = 500
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY


@dataclass(frozen=True)
class FullFile:
    """A file of ``size`` bytes is written and swapped out."""

    size: int

    @property
    def __name__(self) -> str:
        return f"file of {format_size(self.size)}"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Once: the second file would live in the memory of the first."""
        self._swapped_out(place, _WARM_UP)  # what the daemon needs to work at all is not counted
        before, pages = place.metadata_bytes(), pages_for(self.size)
        grown = self._swapped_out(place, self.size) - before
        name = f"metadata of {format_size(self.size)} on swap"
        yield Metric(name, "bytes/page", bound=12.0), grown / pages

    @staticmethod
    def _swapped_out(place: Place, size: int) -> int:
        """The daemon's memory when a file of that size, which is no more, was on swap."""
        pages = pages_for(size)
        with place.scratch() as fd:
            write_pages(fd, size)
            os.fsync(fd)
            swap_out(fd)
            expect(inspect(fd).pages.on_swap, pages, "pages on swap")
            taken = place.metadata_bytes()
            with mapped(fd, size) as area:
                expect(int(first_words(area).sum()), pages * (pages + 1) // 2, "pages from swap")
        return taken


@dataclass(frozen=True)
class ManyInodes:
    """So many files of one page are made in one directory."""

    count: int

    @property
    def __name__(self) -> str:
        return f"{self.count:,} inodes"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Once: they go with the mount."""
        self._created(place, "warm-up", _FEW)
        before = place.metadata_bytes()
        seconds = self._created(place, "many", self.count)
        grown = place.metadata_bytes() - before
        name = f"{self.count:,} files of a page"
        yield Metric(f"{name}, made", "files/s", Better.HIGHER), self.count / seconds
        yield Metric(f"{name}, metadata", "bytes/inode"), grown / self.count

    @staticmethod
    def _created(place: Place, name: str, count: int) -> float:
        """Seconds to make so many in a new directory."""
        directory, content = place.directory / name, bytearray(os.urandom(PAGE_SIZE))
        directory.mkdir()
        begin = perf_counter()
        for number in range(count):
            content[:8] = number.to_bytes(8, "little")
            fd = os.open(directory / str(number), _NEW)
            os.write(fd, content)
            os.close(fd)
        seconds = perf_counter() - begin
        for number in range(0, count, max(1, count // _FEW)):
            found = (directory / str(number)).read_bytes()
            expect(int.from_bytes(found[:8], "little"), number, "a small file")
        return seconds
