"""EventLog: what happens to the inodes of a mount, for those who want to follow it.

Whoever calls the operations of an area notes what happened; each reader that may see it gets a
line of text into a buffer of its own, from which it takes as much as it likes when it likes::

    note ──▶ the last few, as they happened (`Happening`)      no text is made of these
      │
      └────▶ rendered once ──▶ reader   line line line
                          ├──▶ reader   line
                          └──▶ reader   line line … full, 3 lost

A buffer is bounded, in lines and in bytes. What finds it full is counted, and a line ``lost=N``
stands in its place once there is room, or once all that came before has been taken.

With no reader nothing is rendered and no name is looked up: what happened is remembered, and that
is all. What happens too often for that (a fault) is not to be told at all unless it is `wanted`.

It must not know who may see what, nor how a reader waits: it is given a ``sight`` and a ``wake``.
Everything is synchronous, and belongs to whoever holds the lock of the engine.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from anonfs.errors import require
from anonfs.events import Lost, VmEvent
from anonfs.vm._mapped_inode import MappedInode

__all__ = ["EventLog", "EventReader", "Happening", "Sight"]

_REMEMBERED = 1000


class Happening(NamedTuple):
    """What happened, before somebody reads of it: an event as in `anonfs.events` without a name.

    ``uid`` is the user of the process whose addresses it tells, None where it is of no process.
    """

    event: str
    inode: MappedInode
    time: float
    uid: int | None = None
    pid: int | None = None
    parent: int | None = None
    start: int | None = None
    end: int | None = None
    offset: int | None = None
    pages: int | None = None


class Sight(Enum):
    """What a reader may see of something that happened."""

    NOTHING = 0
    WITHOUT_ADDRESSES = 1
    ALL = 2


class EventReader:
    """One follower, with what it has not read yet; made by `EventLog.open`.

    Args:
        sight: what it may see of something.
        wake: called when there is something to take.
        most_lines: the bound of its buffer in lines.
        most_bytes: the same in bytes.
    """

    def __init__(
        self,
        sight: Callable[[Happening], Sight],
        wake: Callable[[], None],
        most_lines: int,
        most_bytes: int,
    ) -> None:
        self.sight = sight
        self._wake = wake
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0

    @property
    def is_ready(self) -> bool:
        """Whether there is something to take."""
        return bool(self._lines or self._lost)

    def offer(self, line: bytes) -> None:
        """Keep ``line``, or count it as lost."""
        gap = _lost_line(self._lost) if self._lost else b""
        lines = len(self._lines) + 1 + bool(gap)
        size = self._bytes + len(gap) + len(line)
        if lines > self._most_lines or size > self._most_bytes:
            self._lost += 1
        else:
            if gap:
                self._lines.append(gap)
                self._lost = 0
            self._lines.append(line)
            self._bytes = size
        self._wake()

    def take(self, size: int) -> bytes:
        """The oldest lines, as many as fit in ``size`` bytes; a piece of one where none does."""
        taken: list[bytes] = []
        left = size
        while left > 0 and self.is_ready:
            if not self._lines:
                self._lines.append(_lost_line(self._lost))
                self._bytes += len(self._lines[0])
                self._lost = 0
            line = self._lines[0]
            if len(line) > left and taken:
                break
            piece = line[:left]
            if len(piece) == len(line):
                self._lines.popleft()
            else:
                self._lines[0] = line[left:]
            taken.append(piece)
            left -= len(piece)
            self._bytes -= len(piece)
        return b"".join(taken)

    def check_invariants(self) -> None:
        """Recount the bytes; the bounds hold, but for a gap that is being read."""
        require(sum(map(len, self._lines)) == self._bytes, "buffered bytes miscounted")
        require(len(self._lines) <= max(self._most_lines, 1), "too many lines are buffered")
        bounded = self._bytes <= self._most_bytes or len(self._lines) == 1
        require(bounded, "too many bytes are buffered")


class EventLog:
    """What happened lately, and who follows it.

    Args:
        name_of: what the events call an inode: its path in the mount, or None.
        remembered: how many happenings are kept for readers to come.

    Attributes:
        wanted: whether anybody reads.
        now: the time, in seconds since the epoch.
    """

    def __init__(
        self,
        name_of: Callable[[MappedInode], str | None],
        now: Callable[[], float] = time.time,
        remembered: int = _REMEMBERED,
    ) -> None:
        self.wanted = False
        self.now = now
        self._name_of = name_of
        self.remembers = remembered
        self._past: deque[Happening] = deque(maxlen=remembered)
        self._readers: list[EventReader] = []

    def open(self, reader: EventReader, *, past: bool = False) -> EventReader:
        """Let ``reader`` follow, from now on or, with ``past``, from what is remembered on."""
        if past:
            for happening in self._past:
                self._tell(happening, [reader])
        self._readers.append(reader)
        self.wanted = True
        return reader

    def close(self, reader: EventReader) -> None:
        """``reader`` follows no longer."""
        self._readers.remove(reader)
        self.wanted = bool(self._readers)

    def note(self, happening: Happening) -> None:
        """Remember what happened, and tell it."""
        self._past.append(happening)
        if self.wanted:
            self._tell(happening, self._readers)

    def tell(self, happening: Happening) -> None:
        """Tell what happens too often to be remembered."""
        self._tell(happening, self._readers)

    def _tell(self, happening: Happening, readers: list[EventReader]) -> None:
        event: VmEvent | None = None
        lines: dict[Sight, bytes] = {}
        for reader in readers:
            sight = reader.sight(happening)
            if sight is Sight.NOTHING:
                continue
            line = lines.get(sight)
            if line is None:
                event = event or self._event(happening)
                line = lines[sight] = _line(event, sight)
            reader.offer(line)

    def _event(self, happening: Happening) -> VmEvent:
        kind, inode, when, _uid, *numbers = happening
        return VmEvent(when, inode.ino, self._name_of(inode), kind, *numbers)

    def check_invariants(self) -> None:
        """Whether somebody reads is known, and every buffer is sound."""
        require(self.wanted == bool(self._readers), "it is not known whether anybody reads")
        for reader in self._readers:
            reader.check_invariants()


def _line(event: VmEvent, sight: Sight) -> bytes:
    if sight is Sight.WITHOUT_ADDRESSES:
        event = replace(event, start=None, end=None)
    return event.render().encode("ascii") + b"\n"


def _lost_line(events: int) -> bytes:
    return Lost(events).render().encode("ascii") + b"\n"
