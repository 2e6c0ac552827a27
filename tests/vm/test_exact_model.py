"""The kernel's events and looks at the same processes, in any order: a model of both.

The machine has processes whose pages are the truth. What they do changes it at once, and waits in
a queue of the process until the event of it is read, as in the kernel. It is a thread that waits:
others go on, but for one that ends or calls exec, and a child begins when its fork is read. A look
takes its time: it begins, sees one process after the other, and is told once all is read::

    begin ── see ── see ─────────── see ── told        since the beginning
       fork      unmap ── read ─ exit                  processes meanwhile

Each operation is called once for each area (`Recorder` sees to that), what is known of a process
that is attached in full is true at any time, and all rings are when all is read and looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from anonfs.units import PAGE_SIZE
from anonfs.vm import AddressSpace, MappedArea, ProcessMaps
from tests.vm.fakes import BASE, World, maps, seen

_PAGES = 12
_ELSEWHERE = 100
"""Where what is moved goes: nothing else is there."""

_THREADS = 3
"""How many threads of a process may wait at a time."""

_PAGE = st.integers(0, _PAGES - 1)
_SIZE = st.integers(1, 4)


@dataclass(frozen=True)
class Page:
    """What a page of a process maps, and whether the kernel reports on it."""

    ino: int
    index: int
    reported: bool = False


@dataclass(frozen=True)
class Event:
    """What is told when it is read; of a fork the child, which waits for that."""

    tell: Callable[[], None]
    child: "Process | None" = None


@dataclass(eq=False)
class Process:
    """One that lives, or has ended with its event unread."""

    pid: int
    start_time: int
    parent: int
    pages: dict[int, Page] = field(default_factory=dict)
    space: AddressSpace | None = None
    resolved: bool = True
    faithful: bool = False
    """Whether events alone tell all that it has."""
    alive: bool = True
    born: bool = True
    unread: list[Event] = field(default_factory=list)

    @property
    def is_reported(self) -> bool:
        return any(page.reported for page in self.pages.values())

    def spans(self) -> list[tuple[int, int]]:
        """Runs of pages that are one area: from, to before."""
        runs: list[tuple[int, int]] = []
        for at, page in sorted(self.pages.items()):
            before = self.pages.get(at - 1)
            follows = before == Page(page.ino, page.index - 1, page.reported)
            runs.append((runs.pop()[0], at + 1) if follows else (at, at + 1))
        return runs

    def look(self) -> ProcessMaps:
        areas: list[MappedArea] = []
        for first, end in self.spans():
            page = self.pages[first]
            areas.append(seen(page.ino, first, end, page.index))
        return maps(self.pid, *areas, parent=self.parent, start_time=self.start_time)


def _at(page: int) -> int:
    return BASE + page * PAGE_SIZE


class Machine(RuleBasedStateMachine):
    processes: Bundle[Process] = Bundle("processes")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.spaces = self.world.spaces
        self.spaces.catch_up = self.read_all
        self.all: list[Process] = []
        self.ticks = count(1)
        self.free_pids = list(range(40, 10, -1))
        self.next_pid = count(100)
        self.elsewhere = count(_ELSEWHERE, 50)
        self.since: int | None = None
        self.complete = False
        self.looked: dict[tuple[int, int], ProcessMaps] = {}

    # -- what processes do -----------------------------------------------------------------

    def begin(self, parent: int) -> Process:
        pid = self.free_pids.pop() if self.free_pids else next(self.next_pid)
        process = Process(pid, next(self.ticks), parent)
        self.all.append(process)
        return process

    def is_free(self, process: Process) -> bool:
        """Whether it has a thread that does not wait for somebody to read."""
        return process.alive and process.born and len(process.unread) < _THREADS

    def is_idle(self, process: Process) -> bool:
        """Whether none of its threads waits."""
        return process.alive and process.born and not process.unread

    @rule(target=processes, size=_SIZE, attached=st.booleans())
    def start(self, size: int, attached: bool) -> Process:
        process = self.begin(1)
        process.pages = {at: Page(1, at) for at in range(size)}
        if attached:
            self.attach(process)
        return process

    @rule(process=processes, first=_PAGE, size=_SIZE, ino=st.integers(1, 2), index=_PAGE)
    def mmap(self, process: Process, first: int, size: int, ino: int, index: int) -> None:
        free = all(at not in process.pages for at in range(first, first + size))
        if self.is_free(process) and free:
            process.pages |= {first + i: Page(ino, index + i) for i in range(size)}
            process.faithful = False

    def remove(self, process: Process, first: int, end: int) -> None:
        """Unmap pages; if there was something reported, that is."""
        gone = [process.pages.pop(at) for at in range(first, end) if at in process.pages]
        space = process.space
        if space is not None and any(page.reported for page in gone):
            process.unread.append(Event(lambda: self.spaces.unmap(space, _at(first), _at(end))))

    @rule(process=processes, first=_PAGE, size=_SIZE)
    def munmap(self, process: Process, first: int, size: int) -> None:
        if self.is_free(process):
            self.remove(process, first, first + size)

    @rule(process=processes, chosen=st.integers(0, 9), grow=st.integers(0, 2), far=st.booleans())
    def mremap(self, process: Process, chosen: int, grow: int, far: bool) -> None:
        """Move an area, and let it grow: of that there is no event."""
        if not self.is_free(process) or not process.pages:
            return
        spans = process.spans()
        first, end = spans[chosen % len(spans)]
        moved = [process.pages[at] for at in range(first, end)]
        last = moved[-1]
        size = end - first
        if far:
            to = next(self.elsewhere)
            space = process.space
            if last.reported and space is not None:
                start, length = _at(first), size * PAGE_SIZE
                moved_to = _at(to)
                tell = lambda: self.spaces.remap(space, start, moved_to, length)
                process.unread.append(Event(tell))
            self.remove(process, first, end)
            process.pages |= {to + i: page for i, page in enumerate(moved)}
        else:
            to = first
            if any(end + i in process.pages for i in range(grow)):
                grow = 0
        for i in range(grow):
            process.pages[to + size + i] = Page(last.ino, last.index + 1 + i, last.reported)
        process.faithful = process.faithful and not grow

    @rule(target=processes, parent=processes)
    def fork(self, parent: Process) -> Process:
        if not self.is_free(parent):
            return parent
        child = self.begin(parent.pid)
        child.pages = dict(parent.pages)
        child.faithful = parent.faithful
        space = parent.space
        if space is not None and parent.is_reported:
            child.born = False
            tell = lambda: self.give_birth(child, self.spaces.fork(space))
            parent.unread.append(Event(tell, child))
        else:
            self.give_birth(child, None)
        return child

    def give_birth(self, child: Process, space: AddressSpace | None) -> None:
        child.born = True
        # Where nothing was known the daemon lets go of the child.
        if space:
            child.space, child.resolved = space, False
        else:
            child.faithful = False
            child.pages = {at: Page(p.ino, p.index) for at, p in child.pages.items()}

    @rule(process=processes)
    def exec(self, process: Process) -> None:
        if self.is_idle(process) and process.resolved:
            process.pages, process.faithful = {}, False

    @rule(process=processes)
    def exit(self, process: Process) -> None:
        if not self.is_idle(process):
            return
        process.alive = process.faithful = False
        process.pages = {}
        self.free_pids.append(process.pid)
        for child in self.all:
            if child.parent == process.pid:
                child.parent = 1
        space = process.space
        if space is not None:
            process.unread.append(Event(lambda: self.spaces.end(space)))

    # -- what the daemon does --------------------------------------------------------------

    @rule(process=processes)
    def read(self, process: Process) -> None:
        """Read the event that the process waits with."""
        if process.unread:
            process.unread.pop(0).tell()

    def read_all(self) -> None:
        for process in self.all:
            while process.unread:
                self.read(process)

    @rule(process=processes)
    def resolve(self, process: Process) -> None:
        if process.alive and process.born and not process.resolved and process.space is not None:
            if process.space in self.spaces.unresolved:
                self.spaces.resolve(process.space, process.look())
                process.resolved = True
            elif not process.unread:
                # It has unmapped everything that was known, and is let go of.
                self.detach(process)

    @rule(process=processes)
    def attach(self, process: Process) -> None:
        if not self.is_free(process) or not process.resolved:
            return
        self.read_all()
        spans = [(_at(first), _at(end)) for first, end in process.spans()]
        space = self.spaces.attach(process.look(), spans, since=self.spaces.moment)
        if space is None:
            assert not process.pages
            return
        process.space, process.faithful = space, True
        process.pages = {at: Page(p.ino, p.index, True) for at, p in process.pages.items()}

    @rule(process=processes)
    def detach(self, process: Process) -> None:
        """Those who wait go on, and what they did is not told."""
        if process.space is not None and process.alive:
            self.spaces.detach(process.space)
            process.space, process.resolved, process.faithful = None, True, False
            for event in process.unread:
                if event.child is not None:
                    self.give_birth(event.child, None)
            process.unread.clear()
            process.pages = {at: Page(p.ino, p.index) for at, p in process.pages.items()}

    # -- looks -----------------------------------------------------------------------------

    @rule(complete=st.booleans())
    def begin_look(self, complete: bool) -> None:
        if self.since is None:
            self.since, self.complete, self.looked = self.spaces.moment, complete, {}

    @rule(process=processes)
    def see(self, process: Process) -> None:
        if self.since is not None and process.alive and process.born:
            self.looked.setdefault((process.pid, process.start_time), process.look())

    @rule()
    def end_look(self) -> None:
        if self.since is None:
            return
        if self.complete:
            for process in self.all:
                self.see(process)
        shown = [look for look in self.looked.values() if look.areas or not self.complete]
        self.spaces.update(shown, complete=self.complete, since=self.since)
        self.since = None

    @rule()
    def look_at_all(self) -> None:
        self.begin_look(complete=True)
        self.end_look()

    # -- what must be true -----------------------------------------------------------------

    @invariant()
    def rings_are_sound(self) -> None:
        self.world.check()

    @invariant()
    def what_is_attached_is_known(self) -> None:
        for process in self.all:
            if process.faithful and not process.unread and process.space is not None:
                assert self.known(process.space) == self.truth(process)
                assert all(area.attached for area in process.space.areas)

    @rule()
    def all_is_read_and_looked_at(self) -> None:
        self.end_look()
        self.read_all()
        for process in self.all:
            self.resolve(process)
        self.look_at_all()
        self.world.check()
        shown = {
            (area.pid, page, int(area.inode.ino), area.offset_at(_at(page)) // PAGE_SIZE)
            for area in self.world.recorder.alive
            for page in range((area.start - BASE) // PAGE_SIZE, (area.end - BASE) // PAGE_SIZE)
        }
        expected = {
            (process.pid, at, page.ino, page.index)
            for process in self.all
            for at, page in process.pages.items()
        }
        assert shown == expected

    def known(self, space: AddressSpace) -> set[tuple[int, int, int]]:
        return {
            (page, int(area.inode.ino), area.offset_at(_at(page)) // PAGE_SIZE)
            for area in space.areas
            for page in range((area.start - BASE) // PAGE_SIZE, (area.end - BASE) // PAGE_SIZE)
        }

    def truth(self, process: Process) -> set[tuple[int, int, int]]:
        return {(at, page.ino, page.index) for at, page in process.pages.items()}

    def teardown(self) -> None:
        self.all_is_read_and_looked_at()
        for process in self.all:
            self.exit(process)
        self.all_is_read_and_looked_at()
        assert not self.world.recorder.alive


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
