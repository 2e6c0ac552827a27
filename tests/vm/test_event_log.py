from collections.abc import Callable

import pytest

from anonfs.events import Lost, VmEvent, parse_event_line
from anonfs.units import Ino
from anonfs.vm import EventLog, EventReader, Happening, MappedInode, Sight
from tests.vm.fakes import FakeInode

INODE = FakeInode(Ino(7))
LINE = len(VmEvent(5.0, 7, "file-7", "open", 10, 1, 0x1000, 0x3000, 4096, 2).render()) + 1


class Watcher:
    """A reader that may see all, and how often it was woken."""

    def __init__(self, most_lines: int = 100, most_bytes: int = 10_000) -> None:
        self.wakes = 0
        self.sees = Sight.ALL
        self.reader = EventReader(lambda _: self.sees, self._wake, most_lines, most_bytes)

    def _wake(self) -> None:
        self.wakes += 1

    def told(self, size: int = 1 << 20) -> list[VmEvent | Lost]:
        return [parse_event_line(line) for line in self.reader.take(size).decode().splitlines()]

    def numbers(self) -> list[int | str]:
        return [f"lost {e.events}" if isinstance(e, Lost) else e.pid or 0 for e in self.told()]


@pytest.fixture
def log() -> EventLog:
    return EventLog(lambda inode: f"file-{inode.ino}", now=lambda: 5.0, remembered=3)


def happening(pid: int, event: str = "open") -> Happening:
    return Happening(event, INODE, 5.0, 1000, pid, 1, 0x1000, 0x3000, 4096, 2)


def test_each_reader_is_told_everything_once(log: EventLog) -> None:
    watchers = [Watcher(), Watcher()]
    for watcher in watchers:
        log.open(watcher.reader)
    log.note(happening(10))
    log.tell(happening(11, "fault"))
    for watcher in watchers:
        assert watcher.wakes == 2
        assert watcher.told() == [
            VmEvent(5.0, 7, "file-7", "open", 10, 1, 0x1000, 0x3000, 4096, 2),
            VmEvent(5.0, 7, "file-7", "fault", 11, 1, 0x1000, 0x3000, 4096, 2),
        ]
        assert not watcher.reader.is_ready
        assert watcher.told() == []
    log.check_invariants()


def test_it_is_wanted_while_somebody_reads(log: EventLog) -> None:
    first, second = Watcher(), Watcher()
    wanted = [log.wanted]
    log.open(first.reader)
    log.open(second.reader)
    log.close(first.reader)
    wanted.append(log.wanted)
    log.note(happening(10))
    assert (first.wakes, second.wakes) == (0, 1)
    log.close(second.reader)
    assert [*wanted, log.wanted] == [False, True, False]


def test_without_a_reader_no_name_is_looked_up() -> None:
    asked: list[MappedInode] = []

    def name_of(inode: MappedInode) -> str | None:
        asked.append(inode)
        return None

    log = EventLog(name_of)
    log.note(happening(10))
    assert not asked
    blind = Watcher()
    blind.sees = Sight.NOTHING
    log.open(blind.reader)
    log.note(happening(11))
    assert not asked
    assert not blind.reader.is_ready
    for _ in range(5):
        log.open(Watcher().reader)
    log.note(happening(12))
    assert asked == [INODE]


def test_the_past_is_bounded_and_for_those_who_ask(log: EventLog) -> None:
    for pid in (10, 11, 12, 13):
        log.note(happening(pid))
    old, new = Watcher(), Watcher()
    log.open(old.reader, past=True)
    log.tell(happening(99, "fault"))
    log.open(new.reader)
    log.note(happening(14))
    assert old.numbers() == [11, 12, 13, 99, 14]
    assert new.numbers() == [14]
    again = Watcher()
    log.open(again.reader, past=True)
    assert again.numbers() == [12, 13, 14], "faults are not remembered"


def test_addresses_can_be_hidden(log: EventLog) -> None:
    open_eyed, other = Watcher(), Watcher()
    other.sees = Sight.WITHOUT_ADDRESSES
    log.open(open_eyed.reader)
    log.open(other.reader)
    log.note(happening(10))
    assert other.told() == [VmEvent(5.0, 7, "file-7", "open", 10, 1, None, None, 4096, 2)]
    assert open_eyed.told() == [VmEvent(5.0, 7, "file-7", "open", 10, 1, 0x1000, 0x3000, 4096, 2)]


@pytest.mark.parametrize(
    "bounded", [lambda: Watcher(most_lines=2), lambda: Watcher(most_bytes=2 * LINE + 5)]
)
def test_a_slow_reader_is_told_where_events_are_missing(
    log: EventLog, bounded: Callable[[], Watcher]
) -> None:
    slow, fast = bounded(), Watcher()
    log.open(slow.reader)
    log.open(fast.reader)
    for pid in range(10, 15):
        log.note(happening(pid))
    assert slow.reader.take(LINE + 50).count(b"\n") == 1
    slow.reader.check_invariants()
    log.note(happening(15))
    assert slow.numbers() == [11, "lost 4"], "there was no room for the count and an event"
    log.note(happening(16))
    assert slow.numbers() == [16]
    assert fast.numbers() == [10, 11, 12, 13, 14, 15, 16]


def test_the_gap_stands_before_what_came_after_it(log: EventLog) -> None:
    slow = Watcher(most_lines=3)
    log.open(slow.reader)
    for pid in range(10, 15):
        log.note(happening(pid))
    assert slow.reader.take(2 * LINE).count(b"\n") == 2
    log.note(happening(15))
    assert slow.numbers() == [12, "lost 2", 15]


def test_whole_lines_where_they_fit_and_else_a_piece(log: EventLog) -> None:
    watcher = Watcher()
    log.open(watcher.reader)
    log.note(happening(10))
    log.note(happening(11))
    whole = [watcher.reader.take(LINE + 10), watcher.reader.take(LINE + 10)]
    assert [piece[-1:] for piece in whole] == [b"\n", b"\n"]
    log.note(happening(10))
    log.note(happening(11))
    pieces = [watcher.reader.take(1) for _ in range(len(whole[0]) - 3)]
    assert watcher.reader.take(0) == b""
    watcher.reader.check_invariants()
    pieces.append(watcher.reader.take(10))
    assert b"".join(pieces) == whole[0], "the next line waits for a READ that has room"
    assert watcher.reader.take(1 << 20) == whole[1]
