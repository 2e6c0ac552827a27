"""The group ``private``: memory that forks copy, and copies of files.

A fork is compared with one of a process that has as much of the kernel's own anonymous memory. A
copy of a file is compared with copying it on a tmpfs, and with a copy by reference where this
machine has a file system that makes those.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from time import perf_counter

from anonfs.client import clone
from anonfs.units import PAGE_SIZE, format_size
from measure import Group, Metric, Sample
from overlaid import Untouched
from pages import MIB, expect, first_words, mapped, write_pages
from peers import TMPFS
from places import AnonfsPlace, Place
from programs import program
from reflinks import kind, reflink, reflink_place

__all__ = ["GROUP"]

_REFLINKS = kind()
_MOST = 10.0  # ms that a clone of 1 GiB in core may take
_STORES = 200


@dataclass(frozen=True)
class _Forks:
    """A process with ``size`` bytes of private memory, all of them written, forks."""

    size: int
    times: int

    @property
    def __name__(self) -> str:
        return f"forks with {format_size(self.size)}"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """The first fork, whose pages are dirty, and the median of the others."""
        mount = place.directory if isinstance(place, AnonfsPlace) else "-"
        with program("private_forker", mount, self.size // MIB) as forker:
            first, *others = (
                tuple(map(float, forker.ask("fork").split())) for _ in range(self.times + 1)
            )
        size, does = format_size(self.size), "anonymous memory"
        yield Metric(f"fork, {size} private, just written", "ms", peer_does=does), first[0] * 1e3
        for name, unit, which, factor in (
            (f"fork, {size} private", "ms", 0, 1e3),
            ("  child reads each page", "ms", 1, 1e3),
            ("  child's first store to a page", "µs", 2, 1e6),
        ):
            value = median(times[which] for times in others) * factor
            yield Metric(name, unit, peer_does=does), value


class _Others(StrEnum):
    """What somebody else does with a file that is copied."""

    NONE = ""
    OPEN = ", open to write"
    STORE = ", stored to"
    """All the time, so that anonfs has to stop whoever does."""


@dataclass(frozen=True)
class _Clones:
    """A file of ``size`` bytes, in core and written back, is copied."""

    size: int
    lazy: bool
    others: _Others = _Others.NONE

    @property
    def __name__(self) -> str:
        return f"clones of {format_size(self.size)}"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Once for each peer."""
        how = "lazy" if self.lazy else "eager"
        name = f"clone of {format_size(self.size)}, {how}{self.others}"
        ours = isinstance(place, AnonfsPlace)
        times = self._times(place, self._clone if ours else _copy)
        yield from zip(self._metrics(name, "copies it"), times, strict=True)
        if _REFLINKS:
            metrics = self._metrics(f"{name} ", f"reflink on {_REFLINKS}")
            if not ours:
                with reflink_place(place.directory.parent) as other:
                    times = self._times(other, _reflink)
            yield from zip(metrics, times, strict=True)

    def _metrics(self, name: str, does: str) -> Iterator[Metric]:
        last = name[-1] == " "  # names differ, and nobody sees by what
        bound = None if self.others is _Others.STORE else _MOST
        yield Metric(name, "ms", bound=bound, peer_does=does)
        yield Metric("  first store to a page of it" + " " * last, "µs", peer_does=does)
        yield Metric("  and msync(2)" + " " * last, "µs", peer_does=does)

    def _times(
        self, place: Place, make: Callable[[Path, Path], None]
    ) -> tuple[float, float, float]:
        source, copy = (place.directory / name for name in ("source", "copy"))
        with contextlib.ExitStack() as stack:
            for path in (source, copy):
                stack.callback(path.unlink, missing_ok=True)
            with source.open("x+b", buffering=0) as file:
                write_pages(file.fileno(), self.size)
                os.fsync(file.fileno())
            if self.others is _Others.OPEN:
                stack.enter_context(source.open("r+b"))
            if self.others is _Others.STORE:
                stack.enter_context(program("storer", str(source), self.size))
            # Answered when the daemon has freed the copy before, which it does at its leisure.
            os.statvfs(place.directory)
            begin = perf_counter()
            make(source, copy)
            seconds = perf_counter() - begin
            stored, flushed = self._store(copy)
        return seconds * 1e3, stored * 1e6, flushed * 1e6

    def _store(self, copy: Path) -> tuple[float, float]:
        """The medians of the seconds that the first store to a page takes, and its write-back."""
        stored, flushed = [], []
        count = self.size // PAGE_SIZE
        pages = [number * 7919 % count for number in range(_STORES)]
        with copy.open("r+b") as file, mapped(file.fileno(), self.size) as area:
            words = first_words(area)
            for page in pages:
                begin = perf_counter()
                words[page] = 0
                middle = perf_counter()
                area.flush(page * PAGE_SIZE, PAGE_SIZE)
                flushed.append(perf_counter() - middle)
                stored.append(middle - begin)
            total = count * (count + 1) // 2 - sum(page + 1 for page in pages)
            expect(int(words.sum()), total, "first words of a copy")
            del words
        return median(stored), median(flushed)

    def _clone(self, source: Path, copy: Path) -> None:
        clone(source, copy, lazy=self.lazy)


def _copy(source: Path, copy: Path) -> None:
    with source.open("rb") as file, copy.open("xb") as other:
        while os.copy_file_range(file.fileno(), other.fileno(), 1 << 30):
            pass


def _reflink(source: Path, copy: Path) -> None:
    with source.open("rb") as file, copy.open("xb") as other:
        reflink(file.fileno(), other.fileno())


GROUP = Group(
    "private memory, copies of files, and files over files",
    TMPFS,
    (
        _Forks(256 * MIB, 5),
        *(_Clones(1 << 30, lazy) for lazy in (False, True)),
        *(_Clones(1 << 30, lazy=True, others=others) for others in (_Others.OPEN, _Others.STORE)),
        *(Untouched(256 * MIB, cached) for cached in (True, False)),
    ),
    quick=(
        _Forks(64 * MIB, 3),
        *(_Clones(256 * MIB, lazy) for lazy in (False, True)),
        *(_Clones(256 * MIB, lazy=True, others=others) for others in (_Others.OPEN, _Others.STORE)),
        Untouched(64 * MIB, cached=True),
    ),
    budget="1536M",
    swap_size="2G",
    note=""
    if _REFLINKS
    else "Copies by reference are not compared: that takes root, and mkfs.xfs or mkfs.btrfs.",
)
