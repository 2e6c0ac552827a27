"""A scenario with a thousand segments that a hundred processes hold: to make them, to see who does.

Who holds a segment the ring tells, and on a tmpfs a search of what all processes map, as fuser(1)
does it. System V does not tell: it counts.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from anonfs.client import areas
from crowded import seconds_said
from measure import Metric, Sample
from pages import expect
from places import Place
from programs import program
from segments import SYSV

__all__ = ["Held"]

_LOOKS = 10


@dataclass(frozen=True)
class Held:
    """So many processes make so many segments each."""

    processes: int
    each: int
    peer: str = ""

    @property
    def __name__(self) -> str:
        return f"{self.processes * self.each:,} segments"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Once; all of them are gone at the end."""
        total = self.processes * self.each
        name = f"{total:,} segments of {self.processes} processes"
        is_sysv = self.peer == SYSV and not place.daemon
        with tempfile.TemporaryDirectory(dir=place.directory) as directory:
            kind = "sysv" if is_sysv else "file"
            with program("holders", kind, directory, self.processes, self.each) as forked:
                made = seconds_said(forked) * 1e3
                yield Metric(f"{name}, made", "ms", peer_does=self.peer), made
                if self.peer != SYSV:
                    looked = _look(place, [Path(directory, str(at)) for at in range(total)])
                    does = "reads /proc/PID/maps"
                    yield Metric("who holds one of them", "ms", peer_does=does), looked * 1e3
            expect(len(list(Path(directory).iterdir())), 0 if is_sysv else total, "segments")


def _look(place: Place, segments: list[Path]) -> float:
    """Seconds to find who holds a segment, the median."""
    seconds = []
    for path in segments[:: len(segments) // _LOOKS]:
        begin = perf_counter()
        found = len(areas(path)[0]) if place.daemon else _mappers(path)
        seconds.append(perf_counter() - begin)
        expect(found, 1, f"holders of {path.name}")
    return median(seconds)


def _mappers(path: Path) -> int:
    """How many areas of a file there are in all processes."""
    found, wanted = 0, f" {path}\n".encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                found += Path(entry.path, "maps").read_bytes().count(wanted)
    return found
