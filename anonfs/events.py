"""Events as text: what happens to the inodes of a mount, from the daemon to who follows it.

``.anonfs/events`` is a line for each event, a JSON object, and a line ``lost=N`` in the place of
events that a reader was too slow for::

    {"time": 1700000000.25, "inode": 7, "name": "job-7", "event": "open", "pid": 100, ...}
    lost=12
    {"time": 1700000003.5, "inode": 7, "name": null, "event": "close", "pid": 100, ...}

``render`` and ``parse`` are side by side so that the two cannot drift apart. A reader ignores keys
that it does not know and takes those that are missing for null, so that either side may be newer.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Self, TypeVar

__all__ = ["EVENTS", "Lost", "VmEvent", "parse_event_line"]

EVENTS = ("open", "dup", "close", "delete", "fault", "swapout")
"""What ``VmEvent.event`` can be; a newer daemon may have others."""

_LOST = re.compile(r"lost=(\d{1,18})")
_NUMBERS = ("pid", "parent", "start", "end", "offset", "pages")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class VmEvent:
    """What happened to an inode; None where something is unknown, hidden or does not apply.

    ``open``, ``dup`` and ``close`` are of one vm area of process ``pid``; a ``dup`` is by a fork
    of ``parent``. ``fault`` and ``swapout`` are of ``pages`` pages from byte ``offset`` on, which
    were handed out to be mapped, or have left core for swap. ``delete`` ends the inode, whose
    number may be used again.
    """

    time: float
    """Seconds since the epoch."""
    inode: int
    name: str | None
    """A path in the mount; None if the inode has no name."""
    event: str
    pid: int | None = None
    parent: int | None = None
    start: int | None = None
    end: int | None = None
    """Addresses; None to those who may not know them."""
    offset: int | None = None
    """The byte of the inode that ``start`` maps, or where the pages begin."""
    pages: int | None = None

    def render(self) -> str:
        """The event as a JSON object, without a newline in it."""
        name = "null" if self.name is None else json.dumps(self.name)
        # By hand it takes half the time of json.dumps, and it is made once for all readers.
        head = f'{{"time": {self.time:.6f}, "inode": {self.inode}, "name": {name}, '
        return (
            f'{head}"event": "{self.event}", "pid": {_json(self.pid)},'
            f' "parent": {_json(self.parent)}, "start": {_json(self.start)},'
            f' "end": {_json(self.end)}, "offset": {_json(self.offset)},'
            f' "pages": {_json(self.pages)}}}'
        )

    @classmethod
    def parse(cls, line: str) -> Self:
        """The event that ``line`` is. Raises ValueError: it is none."""
        found = json.loads(line)
        match found:
            case {"time": int() | float() as at, "inode": int() as inode, "event": str() as event}:
                numbers = {name: _optional(found, name, int) for name in _NUMBERS}
                return cls(float(at), inode, _optional(found, "name", str), event, **numbers)
        raise ValueError(f"not an event: {line!r}")


@dataclass(frozen=True, slots=True)
class Lost:
    """``events`` events are missing here: their reader was too slow."""

    events: int

    def render(self) -> str:
        """``lost=N``."""
        return f"lost={self.events}"

    @classmethod
    def parse(cls, line: str) -> Self:
        """The count that ``line`` tells. Raises ValueError: it is no such line."""
        match = _LOST.match(line)
        if match is None:
            raise ValueError(f"not a count of lost events: {line!r}")
        return cls(int(match[1]))


def parse_event_line(line: str) -> VmEvent | Lost:
    """What a line of the stream says. Raises ValueError: nothing that this reader understands."""
    return Lost.parse(line) if line.startswith("lost=") else VmEvent.parse(line)


def _json(number: int | None) -> int | str:
    return "null" if number is None else number


def _optional(found: dict[str, Any], name: str, kind: type[_T]) -> _T | None:
    value = found.get(name)
    if value is None or isinstance(value, kind):
        return value
    raise ValueError(f"{name} is {value!r}")
