"""Readers of all kinds against an oracle that has an endless memory."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from anonfs.events import Lost, parse_event_line
from anonfs.units import Ino
from anonfs.vm import EventLog, EventReader, Happening, Sight
from tests.vm.fakes import FakeInode

REMEMBERED = 4


@dataclass(eq=False)
class Follower:
    """A reader that sees events of some parity only, and what it should have been told."""

    parity: int
    most_lines: int
    most_bytes: int
    expected: list[int] = field(default_factory=list)
    read: bytes = b""
    woken: bool = False
    reader: EventReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = EventReader(self.sight, self.wake, self.most_lines, self.most_bytes)

    def sees(self, number: int) -> bool:
        return self.parity in {2, number % 2}

    def sight(self, happening: Happening) -> Sight:
        return Sight.ALL if self.sees(happening.pid or 0) else Sight.NOTHING

    def wake(self) -> None:
        self.woken = True


class Following(RuleBasedStateMachine):
    """Whatever the sizes of buffers and reads: in order, once each, and gaps are counted."""

    followers = Bundle("followers")

    def __init__(self) -> None:
        super().__init__()
        self.log = EventLog(lambda _: None, now=lambda: 1.0, remembered=REMEMBERED)
        self.inodes = [FakeInode(Ino(ino)) for ino in (1, 2)]
        self.number = 0
        self.past: list[int] = []
        self.open: list[Follower] = []

    @rule(
        target=followers,
        parity=st.integers(0, 2),
        lines=st.integers(2, 8),
        size=st.integers(300, 2000),
        past=st.booleans(),
    )
    def follow(self, parity: int, lines: int, size: int, past: bool) -> Follower:
        follower = Follower(parity, lines, size)
        if past:
            follower.expected += filter(follower.sees, self.past)
        self.log.open(follower.reader, past=past)
        self.open.append(follower)
        return follower

    @rule(remembered=st.booleans(), times=st.integers(1, 5))
    def happen(self, remembered: bool, times: int) -> None:
        for _ in range(times):
            self.number += 1
            inode = self.inodes[self.number % 2]
            happening = Happening("open", inode, 1.0, 0, self.number)
            if remembered:
                self.log.note(happening)
                self.past = [*self.past, self.number][-REMEMBERED:]
            else:
                self.log.tell(happening)
            for follower in self.open:
                if follower.sees(self.number):
                    follower.expected.append(self.number)
                    assert follower.woken
                    follower.woken = False

    @rule(follower=followers, size=st.integers(0, 1000))
    def read(self, follower: Follower, size: int) -> None:
        was_ready = follower.reader.is_ready
        taken = follower.reader.take(size)
        assert len(taken) <= size
        assert bool(taken) == (was_ready and size > 0)
        follower.read += taken

    @rule(follower=consumes(followers))
    def leave(self, follower: Follower) -> None:
        while follower.reader.is_ready:
            follower.read += follower.reader.take(100)
        self.check(follower)
        self.log.close(follower.reader)
        self.open.remove(follower)

    def check(self, follower: Follower) -> None:
        """What was read accounts for all that it should have been told."""
        ahead = iter(follower.expected)
        for line in follower.read.decode().splitlines():
            found = parse_event_line(line)
            if isinstance(found, Lost):
                assert found.events > 0
                for _ in range(found.events):
                    next(ahead)
            else:
                assert found.pid == next(ahead)
        assert next(ahead, None) is None

    @invariant()
    def sound(self) -> None:
        self.log.check_invariants()
        assert self.log.wanted == bool(self.open)


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
