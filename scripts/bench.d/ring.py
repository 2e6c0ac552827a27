"""The group ``ring``: what it costs that an inode knows its areas.

A fork must not become slower for what is watched, and a look must not become slow for what does not
map the file. What is told of forks (the ``dup`` callback) is timed where it is told: at a look that
finds many areas that were inherited since the last one.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import IO

from anonfs.client import inspect
from anonfs.inspection import PREFIX
from anonfs.units import PAGE_SIZE
from crowded import crowd, look
from measure import Better, Group, Metric, Sample
from pages import expect
from peers import TMPFS
from places import AnonfsPlace, BenchError, Place

__all__ = ["GROUP"]

_FORKER = Path(__file__).with_name("forker.py")
_FOLLOWER = Path(__file__).with_name("follower.py")
_PATIENCE = 120.0
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
            arguments = [str(stream), str(os.fstat(fd).st_ino)]
            # Of what is remembered from before they are told at once.
            readers = [
                stack.enter_context(_program(_FOLLOWER, arguments)) for _ in range(self.readers)
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
    def _expect(readers: list["_Program"], told: int) -> None:
        for reader in readers:
            reader.tell(str(told))
        for reader in readers:
            expect(int(reader.answer()), 0, "gaps in what a reader was told")


class _Program:
    """A program that is told what to do in lines, and answers each with one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, order: str) -> str:
        """Its answer to a line. Raises BenchError: there is none."""
        self.tell(order)
        return self.answer()

    def tell(self, order: str) -> None:
        """Give it a line."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._process.stdin).write(f"{order}\n")
            _pipe(self._process.stdin).flush()

    def answer(self) -> str:
        """The next line that it says. Raises BenchError: there is none."""
        output = _pipe(self._process.stdout)
        if not select.select([output], [], [], _PATIENCE)[0]:
            raise BenchError(f"a program has not answered for {_PATIENCE:.0f} s")
        line = output.readline().strip()
        if not line:
            raise BenchError("a program has ended")
        return line


def _pipe(found: IO[str] | None) -> IO[str]:
    if found is None:
        raise ValueError("not a pipe")
    return found


@contextlib.contextmanager
def _forker(fd: int, areas: int, how: str) -> Iterator[_Program]:
    """A process that maps a file so many times, until the end of the block."""
    os.ftruncate(fd, PAGE_SIZE)
    with _program(_FORKER, [str(fd), str(areas), how], pass_fds=[fd]) as forker:
        yield forker


@contextlib.contextmanager
def _program(
    path: Path, arguments: Sequence[str], pass_fds: Sequence[int] = ()
) -> Iterator[_Program]:
    """A program that has said its first line, until the end of the block."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, path, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=pass_fds,
        process_group=0,
        text=True,
    )
    try:
        program = _Program(process)
        program.answer()
        yield program
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_PATIENCE)
        process.kill()
        process.wait()


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
