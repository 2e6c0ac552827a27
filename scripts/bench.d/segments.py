"""Scenarios on segments of shared memory: they come and go, are attached, change their size.

On anonfs a segment is always a file with a name, as shm_open(3) makes it. The peer makes the same
on a tmpfs, or in another scenario segments of the kernel's System V.
"""

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import shared_memory
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

import kernel_sysv
from anonfs.shm import SharedMemory
from anonfs.units import PAGE_SIZE, format_size, pages_for
from measure import Metric, Sample
from pages import MIB, Words, expect, first_words
from places import Place

__all__ = ["SYSV", "Attached", "Cycled", "Objects", "Punched", "Resized"]

SYSV = "System V"
"""What a peer does in the place of files, where it does that."""

_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR


@dataclass(frozen=True)
class Cycled:
    """Segments of ``size`` bytes are made, mapped, stored to in every page, and taken away."""

    size: int
    times: int
    peer: str = ""

    @property
    def __name__(self) -> str:
        return f"segments of {format_size(self.size)}"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """The median of one."""
        metric = Metric(f"create to unlink, {format_size(self.size)}", "µs", peer_does=self.peer)
        with _path(place) as path:
            seconds = _median(self.times, lambda: self._cycle(place, path))
        yield metric, seconds * 1e6

    def _cycle(self, place: Place, path: Path) -> None:
        if _is_sysv(place, self.peer):
            _, memory = kernel_sysv.attach_new(self.size)
            self._touch(np.frombuffer(memoryview(memory), np.int64))
            kernel_sysv.detach(memory)
            return
        fd = os.open(path, _NEW, 0o600)
        os.ftruncate(fd, self.size)
        with mmap.mmap(fd, self.size) as area:
            self._touch(np.frombuffer(area, np.int64))
            path.unlink()
        os.close(fd)

    def _touch(self, words: Words) -> None:
        firsts = first_words(words)
        firsts += 1
        expect(int(firsts.sum()), pages_for(self.size), "first words of a new segment")


@dataclass(frozen=True)
class Attached:
    """A segment that is there is opened, mapped, looked at and unmapped."""

    times: int
    peer: str = ""

    @property
    def __name__(self) -> str:
        return "attaches"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """The median of one."""
        metric = Metric("attach, look at a page, detach", "µs", peer_does=self.peer)
        if _is_sysv(place, self.peer):
            number, memory = kernel_sysv.attach_new(MIB)
            memory[0] = b"\1"
            yield metric, _median(self.times, lambda: self._attach(number)) * 1e6
            kernel_sysv.detach(memory)
            return
        with _path(place) as path:
            path.write_bytes(b"\1" * MIB)
            yield metric, _median(self.times, lambda: self._open(path)) * 1e6

    def _attach(self, number: int) -> None:
        memory = kernel_sysv.attach(number, MIB)
        expect(memory[0][0], 1, "first byte of a segment")
        kernel_sysv.detach(memory)

    def _open(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR)
        with mmap.mmap(fd, os.fstat(fd).st_size) as area:
            expect(area[0], 1, "first byte of a segment")
        os.close(fd)


@dataclass(frozen=True)
class Resized:
    """A segment of 1 MiB that is mapped gets twice its size, and its size again."""

    times: int

    @property
    def __name__(self) -> str:
        return "resizes"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """The medians of both ways."""
        with place.scratch() as fd:
            os.ftruncate(fd, MIB)
            with mmap.mmap(fd, MIB) as area:
                first_words(area)[:] = 1

                def there_and_back() -> tuple[float, float]:
                    begin = perf_counter()
                    area.resize(2 * MIB)
                    grown = perf_counter()
                    area[2 * MIB - PAGE_SIZE] = 1
                    shrinking = perf_counter()
                    area.resize(MIB)
                    return grown - begin, perf_counter() - shrinking

                both = [there_and_back() for _ in range(self.times)]
                expect(int(first_words(area).sum()), pages_for(MIB), "first words")
        for name, seconds in zip(("grow", "shrink"), zip(*both, strict=True), strict=True):
            yield Metric(f"{name} a mapped segment by 1 MiB", "µs"), median(seconds) * 1e6


@dataclass(frozen=True)
class Punched:
    """A hole is made of a mapped segment of 1 MiB, or of a page of it, which was written."""

    times: int

    @property
    def __name__(self) -> str:
        return "holes"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """The medians of both."""
        for size in (PAGE_SIZE, MIB):
            with place.scratch() as fd:
                os.ftruncate(fd, MIB)
                with mmap.mmap(fd, MIB) as area:
                    seconds = median(self._punch(area, size) for _ in range(self.times))
            yield Metric(f"free {format_size(size)} of a mapping", "µs"), seconds * 1e6

    @staticmethod
    def _punch(area: mmap.mmap, size: int) -> float:
        first_words(area)[:] = 1
        begin = perf_counter()
        area.madvise(mmap.MADV_REMOVE, 0, size)
        seconds = perf_counter() - begin
        expect(int(first_words(area).sum()), pages_for(MIB - size), "first words beside a hole")
        return seconds


@dataclass(frozen=True)
class Objects:
    """Python's own class, from its making to its unlink; on tmpfs in the machine's /dev/shm."""

    times: int

    @property
    def __name__(self) -> str:
        return "SharedMemory"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """The median of one."""
        name = f"anonfs-bench-{os.getpid()}"

        def made() -> shared_memory.SharedMemory:
            if place.daemon:
                return SharedMemory(name, True, PAGE_SIZE, mount=place.directory)
            return shared_memory.SharedMemory(name, True, PAGE_SIZE)

        def cycle() -> None:
            segment = made()
            expect(_bumped(segment.buf), 1, "first byte of a SharedMemory")
            segment.close()
            segment.unlink()

        metric = Metric("SharedMemory, create to unlink", "µs", peer_does="Python's, in /dev/shm")
        yield metric, _median(self.times, cycle) * 1e6


def _bumped(memory: memoryview | None) -> int:
    if memory is None:
        raise ValueError("not open")
    memory[0] += 1
    return memory[0]


def _is_sysv(place: Place, peer: str) -> bool:
    return peer == SYSV and not place.daemon


@contextmanager
def _path(place: Place) -> Iterator[Path]:
    """A name for a segment; it is gone at the end, and what has it."""
    with tempfile.TemporaryDirectory(dir=place.directory) as directory:
        yield Path(directory, "segment")


def _median(times: int, call: Callable[[], None]) -> float:
    """The seconds that it takes."""
    seconds = []
    for _ in range(times):
        begin = perf_counter()
        call()
        seconds.append(perf_counter() - begin)
    return median(seconds)
