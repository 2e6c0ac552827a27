"""The group ``swap``: a segment that is four times its memory, beside what a kernel does with swap.

A segment is made, filled, read in order, in no order, and by Zipf's law, by processes that check
each page. One phase begins with what the one before has left, nothing is dropped between them: the
end of the segment is in memory when reading begins, a random quarter of it before the random reads.
Both sides read ahead as they do by themselves; the machine beyond the budget has memory to spare,
but no side caches there: anonfs bypasses the page cache of its disk, and so does the kernel's swap.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from anonfs.units import format_size, parse_size
from crew import Crew, Work, crew
from measure import Better, Group, Metric, Sample
from pages import MIB
from peers import limited_tmpfs
from places import Place
from worker import Plan

__all__ = ["GROUP"]

_BUDGET = "128M"
_SWAP = "3G"
_MEDIAN, _MOST = 1.10, 1.25
_TARGETS = {"write": 3.0, "read": 5.0, "random": 1.0, "random_advised": 1.0, "zipf": 1.5}
_TITLES = {
    "write": "sequential first write",
    "read": "sequential read",
    "random": "random read",
    "random_advised": "random read, MADV_RANDOM",
    "zipf": "Zipf 0.99, 70 % reads",
    "resident_read": "resident page, read",
    "resident_write": "resident page, write",
}


@dataclass(frozen=True)
class _Segment:
    """Work on a segment of ``size`` bytes; ``accesses`` of each process to it by Zipf's law."""

    size: int
    workers: int
    faults: int
    accesses: int = 0

    @property
    def __name__(self) -> str:
        return f"{format_size(self.size)} by {self.workers}"

    def __call__(self, place: Place) -> Iterator[Sample]:
        plan = Plan(0, self.workers, self.size, self.faults, self.accesses)
        with place.scratch() as fd:
            os.ftruncate(fd, self.size)
            with crew(place, fd, plan) as hands:
                yield from self._phases(hands)

    def _phases(self, hands: Crew) -> Iterator[Sample]:
        for phase in ("write", "read"):
            work = hands.run(phase)
            yield self._metric(phase, "MiB/s", Better.HIGHER), work.rate / MIB
            yield from self._memory(phase, work)
        for phase in ("random", "random_advised"):
            work = hands.run(phase)
            yield self._metric(phase, "µs/page"), work.latency * 1e6
            yield from self._memory(phase, work)
        if self.accesses:
            work = hands.run("zipf")
            yield self._metric("zipf", "pages/ms", Better.HIGHER), work.rate / 1e3
            yield from self._memory("zipf", work)
            hands.run("check_zipf")
        for phase in ("resident_read", "resident_write"):
            yield self._metric(phase, "ns/page"), hands.run_one(phase).latency * 1e9

    def _metric(self, phase: str, unit: str, better: Better = Better.LOWER) -> Metric:
        name = f"{_TITLES[phase]}, {self.__name__}"
        return Metric(name, unit, better, target=_TARGETS.get(phase, 1.05))

    def _memory(self, phase: str, work: Work) -> Iterator[Sample]:
        """What was in memory of the budget, as often as was looked."""
        name = f"  memory during {_TITLES[phase]}, {self.__name__}"
        shares = [size / parse_size(_BUDGET) for size in work.memory]
        yield Metric(f"{name}: median", "budgets", bound=_MEDIAN), median(shares)
        yield Metric(f"{name}: most", "budgets", bound=_MOST), max(shares)


GROUP = Group(
    f"a segment of at least four times its memory of {format_size(parse_size(_BUDGET))}",
    limited_tmpfs(_BUDGET, _SWAP),
    (_Segment(512 * MIB, 1, 8192), _Segment(512 * MIB, 4, 4096, 40_000)),
    quick=(_Segment(512 * MIB, 4, 1024, 10_000),),
    large=(_Segment(2048 * MIB, 1, 8192), _Segment(2048 * MIB, 4, 4096, 40_000)),
    budget=_BUDGET,
    swap_size=_SWAP,
    runs=3,
    note=f"""\
A ratio counts only where anonfs keeps to its memory: frames and page cache, sampled. The tmpfs is
held by a cgroup to {_BUDGET} and the page tables; its workers' own memory is outside of it. Its
swap file and anonfs's are on the same disk. Nothing is dropped between phases.""",
)
