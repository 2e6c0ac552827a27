"""A simulated machine against the address spaces: whatever happens between looks, they agree."""

from dataclasses import dataclass, field, replace
from typing import Self

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from anonfs.units import PAGE_SIZE, Ino
from anonfs.vm import MappedArea, ProcessMaps
from tests.vm.fakes import BASE, World

PAGES = 24
INIT = 1

inos = st.integers(1, 3).map(Ino)
pages = st.integers(0, PAGES - 1)
sizes = st.integers(1, PAGES // 2)
perms = st.sampled_from(["rw-", "r--", "---"])


@dataclass(frozen=True)
class Range:
    """Pages ``first`` to ``end`` of a process, mapping ``ino`` from page ``offset``."""

    first: int
    end: int
    ino: Ino
    offset: int
    prot: str
    sharing: str

    def cut(self, first: int, end: int) -> Self:
        return replace(self, first=first, end=end, offset=self.offset + first - self.first)

    def seen(self) -> MappedArea:
        return MappedArea(
            self.ino,
            BASE + self.first * PAGE_SIZE,
            BASE + self.end * PAGE_SIZE,
            self.offset * PAGE_SIZE,
            self.prot + self.sharing,
        )


@dataclass
class Process:
    pid: int
    start_time: int
    parent: int
    ranges: list[Range] = field(default_factory=list)

    def split_at(self, page: int) -> None:
        parts: list[Range] = []
        for old in self.ranges:
            if old.first < page < old.end:
                parts += [old.cut(old.first, page), old.cut(page, old.end)]
            else:
                parts.append(old)
        self.ranges = parts

    def unmap(self, first: int, end: int) -> None:
        self.split_at(first)
        self.split_at(end)
        self.ranges = [old for old in self.ranges if old.end <= first or end <= old.first]

    def map(self, new: Range) -> None:
        self.unmap(new.first, new.end)
        self.ranges = sorted([*self.ranges, new], key=lambda old: old.first)

    def protect(self, first: int, end: int, prot: str) -> None:
        self.split_at(first)
        self.split_at(end)
        self.ranges = [
            replace(old, prot=prot) if first <= old.first and old.end <= end else old
            for old in self.ranges
        ]

    def look(self) -> ProcessMaps:
        areas = tuple(area.seen() for area in self.ranges)
        return ProcessMaps(self.pid, self.start_time, self.parent, uid=self.pid, areas=areas)


class Machine(RuleBasedStateMachine):
    """Processes that map, fork and die; ``known`` is what the last look at each showed."""

    processes = Bundle("processes")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.alive: dict[int, Process] = {}
        self.known: dict[int, ProcessMaps] = {}
        self.free_pids = list(range(200, 10, -1))
        self.ticks = 0

    def begin(self, parent: int, ranges: list[Range]) -> Process:
        self.ticks += 1
        process = Process(self.free_pids.pop(), self.ticks // 2, parent, list(ranges))
        self.alive[process.pid] = process
        return process

    def update(self, looks: list[ProcessMaps], *, complete: bool) -> None:
        before = set(self.world.recorder.alive)
        times = {pid: look.start_time for pid, look in self.known.items()}
        self.world.spaces.update(looks, complete=complete)
        shown = {look.pid: look for look in looks}
        self.known = shown if complete else self.known | shown
        for area in before & self.world.recorder.alive:
            # No area passes from one process to the next one that has its pid.
            assert area.pid is not None
            assert self.known[area.pid].start_time == times[area.pid]

    @initialize(target=processes)
    def boot(self) -> Process:
        return self.begin(INIT, [])

    @rule(target=processes)
    def start(self) -> Process:
        return self.begin(INIT, [])

    @rule(target=processes, parent=processes)
    def fork(self, parent: Process) -> Process:
        return self.begin(parent.pid, parent.ranges)

    @rule(process=consumes(processes))
    def exit(self, process: Process) -> None:
        del self.alive[process.pid]
        # The last one out is the first one in: pids are reused at once, and between looks.
        self.free_pids.append(process.pid)
        # A start time has a resolution; one pid is never given twice within it.
        self.ticks += 2
        for child in self.alive.values():
            if child.parent == process.pid:
                child.parent = INIT

    @rule(process=processes)
    def die_and_be_followed_by_a_double(self, process: Process) -> None:
        self.ticks += 2
        process.start_time = self.ticks // 2
        process.parent = INIT
        for child in self.alive.values():
            if child.parent == process.pid:
                child.parent = INIT

    @rule(
        process=processes,
        first=pages,
        size=sizes,
        ino=inos,
        offset=st.integers(0, 3),
        prot=perms,
        sharing=st.sampled_from("sssp"),
    )
    def mmap(
        self,
        process: Process,
        first: int,
        size: int,
        ino: Ino,
        offset: int,
        prot: str,
        sharing: str,
    ) -> None:
        process.map(Range(first, first + size, ino, offset, prot, sharing))

    @rule(process=processes, first=pages, size=sizes)
    def munmap(self, process: Process, first: int, size: int) -> None:
        process.unmap(first, first + size)

    @rule(process=processes, first=pages, size=sizes, prot=perms)
    def mprotect(self, process: Process, first: int, size: int, prot: str) -> None:
        process.protect(first, first + size, prot)

    @rule(process=processes, chosen=st.integers(0, 99), to=pages, grow=st.integers(0, 4))
    def mremap(self, process: Process, chosen: int, to: int, grow: int) -> None:
        if process.ranges:
            old = process.ranges[chosen % len(process.ranges)]
            process.unmap(old.first, old.end)
            process.map(replace(old, first=to, end=to + old.end - old.first + grow))

    @rule()
    def exec_all(self) -> None:
        for process in self.alive.values():
            process.ranges = []

    @rule(mixed=st.randoms(use_true_random=False))
    def look_at_all(self, mixed: object) -> None:
        looks = [process.look() for process in self.alive.values() if process.ranges]
        mixed.shuffle(looks)  # type: ignore[attr-defined]
        self.update(looks, complete=True)

    @rule(pids=st.sets(st.integers(11, 18), max_size=5))
    def look_at_some(self, pids: set[int]) -> None:
        looks = [
            self.alive[pid].look() if pid in self.alive else ProcessMaps.nobody(pid)
            for pid in sorted(pids)
        ]
        self.update(looks, complete=False)

    @rule(ino=inos)
    def drop(self, ino: Ino) -> None:
        self.world.spaces.drop(self.world.inodes[ino])
        self.known = {
            pid: replace(look, areas=tuple(area for area in look.areas if area.ino != ino))
            for pid, look in self.known.items()
        }

    @rule(parent=processes)
    def fork_between_looks_is_dup_alone(self, parent: Process) -> None:
        self.update([parent.look()], complete=False)
        child = Process(999, self.ticks, parent.pid, list(parent.ranges))
        self.world.recorder.take_log()
        self.world.spaces.update([child.look()], complete=False)
        calls = [line.split()[0] for line in self.world.recorder.take_log()]
        assert calls == ["dup"] * len(child.ranges)
        self.world.spaces.update([ProcessMaps.nobody(999)], complete=False)

    @invariant()
    def rings_are_what_was_seen(self) -> None:
        self.world.check()
        shown = {
            (area.pid, area.uid, area.inode.ino, area.start, area.end, area.offset, area.perms)
            for area in self.world.recorder.alive
        }
        expected = {
            (look.pid, look.uid, area.ino, area.start, area.end, area.offset, area.perms)
            for look in self.known.values()
            for area in look.areas
        }
        assert shown == expected
        assert len(self.world.recorder.alive) == len(expected)

    def teardown(self) -> None:
        self.world.spaces.update([], complete=True)
        self.world.check()
        assert not self.world.recorder.alive


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
