"""The group ``ring``: what it costs that an inode knows its areas.

A fork must not become slower for what is watched, and a look must not become slow for what does not
map the file. What is told of forks (the ``dup`` callback) is timed where it is told: at a look that
finds many areas that were inherited since the last one.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from anonfs.client import inspect
from anonfs.inspection import PREFIX
from anonfs.units import PAGE_SIZE
from crowded import crowd, look
from measure import Better, Group, Metric, Sample
from pages import expect
from peers import TMPFS
from places import AnonfsPlace, Place
from programs import Program, program

__all__ = ["GROUP"]

_FORKS = 200
_MAPPERS = 2
_PLAIN = 1.1
_MORE, _MORE_PER_AREA = 100.0, 2.0  # µs that a fork may take longer where areas are attached


@dataclass(frozen=True)
class _Forks:
    """A process with so many areas forks."""

    areas: int

    @property
    def __name__(self) -> str:
        return f"forks with {self.areas:,} areas"

    def __call__(self, place: Place) -> Iterator[Sample]:
        with place.scratch() as fd:
            observed = self._fork(fd, "observed")
            metric = Metric(f"fork, {self.areas:,} areas, observed", "µs", target=_PLAIN)
            yield metric, observed
            if isinstance(place, AnonfsPlace):
                attached = self._fork(fd, "attached")
                yield Metric(f"fork, {self.areas:,} areas, attached", "µs"), attached
                most = _MORE + _MORE_PER_AREA * self.areas
                yield Metric("  more than observed", "µs", bound=most), attached - observed

    def _fork(self, fd: int, how: str) -> float:
        with _forker(fd, self.areas, how) as forker:
            return float(forker.ask(f"time {_FORKS}")) * 1e6


@dataclass(frozen=True)
class _Dups:
    """Children inherit so many areas each."""

    children: int
    areas: int

    @property
    def __name__(self) -> str:
        return f"dups of {self.children} times {self.areas:,} areas"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """On anonfs alone."""
        if not isinstance(place, AnonfsPlace):
            return
        with place.scratch() as fd, _forker(fd, self.areas, "observed") as forker:
            expect(inspect(fd).counts.areas, self.areas, "vm areas")
            forker.ask(f"keep {self.children}")
            begin = perf_counter()
            os.getxattr(fd, f"{PREFIX}ring")
            seconds = perf_counter() - begin
            dups = self.children * self.areas
            expect(inspect(fd).counts.areas, self.areas + dups, "vm areas with those of children")
            metric = Metric("dup callbacks of a look", "areas/s", Better.HIGHER)
            yield metric, dups / seconds


@dataclass(frozen=True)
class _Looks:
    """So many processes are there besides those that are anyway; two of them map the file."""

    processes: int

    @property
    def __name__(self) -> str:
        return f"looks among {self.processes:,} processes"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """On anonfs alone."""
        if not isinstance(place, AnonfsPlace):
            return
        with place.scratch() as fd:
            os.ftruncate(fd, _MAPPERS * PAGE_SIZE)
            with crowd(fd, self.processes, _MAPPERS):
                expect(inspect(fd).counts.areas, _MAPPERS, "vm areas")
                yield (
                    Metric(f"an inspection among {self.processes:,} processes", "ms"),
                    (look(fd, "ring") * 1e3),
                )


@dataclass(frozen=True)
class _Told:
    """So many readers follow what is told of forks of a process with ``areas`` attached areas."""

    readers: int
    areas: int
    forks: int

    @property
    def __name__(self) -> str:
        return f"events to {self.readers} readers"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """On anonfs alone."""
        if not isinstance(place, AnonfsPlace):
            return
        with contextlib.ExitStack() as stack:
            fd = stack.enter_context(place.scratch())
            forker = stack.enter_context(_forker(fd, self.areas, "attached"))
            stream = place.directory / ".anonfs" / "events"
            # Of what is remembered from before they are told at once.
            readers = [
                stack.enter_context(program("follower", str(stream), os.fstat(fd).st_ino))
                for _ in range(self.readers)
            ]
            told = self.areas  # the opens are remembered
            self._expect(readers, told)
            begin = perf_counter()
            for _ in range(self.forks):
                forker.ask("time 1")
                told += 2 * self.areas  # a dup and a close each
                self._expect(readers, told)
            seconds = perf_counter() - begin
            events = 2 * self.areas * self.forks
            metric = Metric(f"events to each of {self.readers} readers", "1/s", Better.HIGHER)
            yield metric, events / seconds

    @staticmethod
    def _expect(readers: list[Program], told: int) -> None:
        for reader in readers:
            reader.tell(str(told))
        for reader in readers:
            expect(int(reader.answer()), 0, "gaps in what a reader was told")


@contextlib.contextmanager
def _forker(fd: int, areas: int, how: str) -> Iterator[Program]:
    """A process that maps a file so many times, until the end of the block."""
    os.ftruncate(fd, PAGE_SIZE)
    with program("forker", fd, areas, how, pass_fds=[fd]) as forker:
        yield forker


GROUP = Group(
    "forks of processes that map files, and looks at them",
    TMPFS,
    (
        _Forks(1),
        _Forks(100),
        _Forks(10_000),
        _Dups(10, 2000),
        _Told(10, 1000, 20),
        _Looks(500),
        _Looks(5000),
    ),
    quick=(_Forks(1), _Forks(100), _Dups(4, 500), _Told(10, 500, 4), _Looks(500)),
    runs=3,
    note="""\
The process that forks is an interpreter, so a plain fork takes longer than that of a small program.
Only forks have a peer: a tmpfs does not know who maps its files.""",
)
