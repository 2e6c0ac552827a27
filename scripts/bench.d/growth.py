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

_WARM_UP = 640 * MIB  # more than the budget
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
        """Beside another file, with which the daemon got all that it needs to swap at all."""
        pages = pages_for(self.size)
        with place.scratch() as first, place.scratch() as second:
            _swap_out_whole(first, _WARM_UP)
            before = place.metadata_bytes()
            _swap_out_whole(second, self.size)
            grown = place.metadata_bytes() - before
            with mapped(second, self.size) as area:
                expect(int(first_words(area).sum()), pages * (pages + 1) // 2, "pages from swap")
        name = f"metadata of {format_size(self.size)} on swap"
        yield Metric(name, "bytes/page", bound=12.0), grown / pages


def _swap_out_whole(fd: int, size: int) -> None:
    """Fill a file, and have all of it on swap."""
    write_pages(fd, size)
    os.fsync(fd)
    swap_out(fd)
    expect(inspect(fd).pages.on_swap, pages_for(size), "pages on swap")


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
