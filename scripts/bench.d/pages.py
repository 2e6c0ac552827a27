"""Files whose every page can be told from the others: its first word is its number plus one.

A page that is lost, stale or misplaced shows in a sum over the first words, which numpy makes at
the speed of the loads themselves::

    page        0            1            2
    words   1 r r r …    2 r r r …    3 r r r …        r: the same random words in each MiB
"""

import contextlib
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anonfs.units import PAGE_SIZE, pages_for
from places import BenchError, Place

__all__ = [
    "MIB",
    "ColdFile",
    "Words",
    "cold_file",
    "expect",
    "first_words",
    "mapped",
    "random_block",
    "stamp",
    "write_pages",
]

MIB = 1 << 20
_WORDS_PER_PAGE = PAGE_SIZE // 8

Words = npt.NDArray[np.int64]


def first_words(buffer: mmap.mmap | Words) -> Words:
    """The first word of each page, as a strided view."""
    return np.frombuffer(buffer, np.int64)[::_WORDS_PER_PAGE]


@contextlib.contextmanager
def mapped(fd: int, size: int) -> Iterator[mmap.mmap]:
    """A shared mapping of the first ``size`` bytes of a file."""
    area = mmap.mmap(fd, size)
    yield area
    # Not after an error: the frames of its traceback still hold views, and forbid it.
    area.close()


def stamp(block: Words, page: int) -> None:
    """Make ``block`` the pages from number ``page`` on."""
    words = first_words(block)
    words[:] = np.arange(page + 1, page + 1 + words.size)


def random_block(size: int) -> Words:
    """A block of ``size`` bytes to be stamped."""
    return np.random.default_rng(size).integers(1 << 62, size=size // 8, dtype=np.int64)


def write_pages(fd: int, size: int) -> None:
    """Write a file of ``size`` bytes, whole MiB."""
    block = random_block(MIB)
    for offset in range(0, size, MIB):
        stamp(block, offset // PAGE_SIZE)
        os.pwrite(fd, block.data, offset)


def expect(found: int, expected: int, what: str) -> None:
    """Raise BenchError unless what was read is what was written."""
    if found != expected:
        raise BenchError(f"{what}: read {found}, not {expected}")


@dataclass(frozen=True)
class ColdFile:
    """A file of which nothing is loaded: ``stamped`` as `write_pages` left it, or all holes."""

    fd: int
    size: int
    stamped: bool

    def sum_of(self, pages: Words) -> int:
        """What the first words of ``pages`` add up to."""
        return int(pages.sum()) + pages.size if self.stamped else 0

    @property
    def all_pages(self) -> Words:
        """The numbers of all pages."""
        return np.arange(pages_for(self.size))


@contextlib.contextmanager
def cold_file(place: Place, size: int) -> Iterator[ColdFile]:
    """A file whose pages the page cache must still be given.

    On anonfs they are in core, written and then dropped from the page cache. tmpfs cannot drop
    what it has, so there they are holes: the least that it does for a page that is not loaded.
    """
    with place.scratch() as fd:
        if place.daemon:
            write_pages(fd, size)
        os.ftruncate(fd, size)
        yield ColdFile(fd, size, place.empty_cache(fd, size))
