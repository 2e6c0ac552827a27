"""What the memory of a mount costs, as text: written by the daemon, read by the client.

Two files of ``.anonfs/``, after two of /proc, with ``render`` and ``parse`` side by side so that
they cannot drift apart::

    meminfo                           swaps
    Budget:          262144 kB        Filename    Type  Size     Used  Retired  Errors
    FramesUsed:       12032 kB        (unlinked)  file  1048576  4096  0        0
    Inodes:              17
    swap_in 2048

What is memory is bytes here and kB in the text; what is counted is a plain number; the counters of
events, which only grow, are lines of their own as in /proc/vmstat. A number that could not be found
out is None, and has no line.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = [
    "Counters",
    "MemInfo",
    "SwapUsage",
    "escaped",
    "parse_swaps",
    "render_swaps",
    "unescaped",
]

_KB = 1024
_WIDTH = 16
_SIZE = re.compile(r"^(\w+):\s*(\d+)( kB)?$", re.MULTILINE)
_COUNTER = re.compile(r"^(\w+) (\d+)$", re.MULTILINE)
_TITLES = ("Filename", "Type", "Size", "Used", "Retired", "Errors")
_UNLINKED = "(unlinked)"


@dataclass(frozen=True, slots=True)
class Counters:
    """What has happened since the mount was made. Pages, unless it says requests or errors.

    Attributes:
        zero_pages: found to be all zeros, and kept nowhere.
        fault_requests: READs, each for a page that was missing and some around it.
        fault_pages: handed out by them: ``fault_in_core`` from frames, ``fault_on_swap`` from swap,
            ``fault_none`` for holes.
        writeback_requests: WRITEs, of ``writeback_pages``.
        reclaim_scanned: looked at by reclaim; ``reclaim_unloaded`` of them left the page cache, and
            ``reclaim_refaulted`` were missed soon after.
        reclaim_throttled: requests that had to wait for reclaim.
        swap_in: read from swap.
        swap_out: written to swap.
        swap_write_errors, swap_read_errors, swap_checksum_errors: requests that failed, and pages
            that came back as something else.
    """

    zero_pages: int = 0
    fault_requests: int = 0
    fault_pages: int = 0
    fault_in_core: int = 0
    fault_on_swap: int = 0
    fault_none: int = 0
    writeback_requests: int = 0
    writeback_pages: int = 0
    reclaim_scanned: int = 0
    reclaim_unloaded: int = 0
    reclaim_refaulted: int = 0
    reclaim_throttled: int = 0
    swap_in: int = 0
    swap_out: int = 0
    swap_write_errors: int = 0
    swap_read_errors: int = 0
    swap_checksum_errors: int = 0

    def render(self) -> str:
        """``NAME N`` for each."""
        return "\n".join(f"{name} {value}" for name, value in dataclasses.asdict(self).items())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The counters in ``text``; unknown lines are ignored, missing ones are 0."""
        known = {item.name for item in dataclasses.fields(cls)}
        found = _COUNTER.findall(text)
        return cls(**{name: int(value) for name, value in found if name in known})


def _memory(title: str, **options: Any) -> Any:
    """A field in bytes, whose line is called ``title``."""
    return field(metadata={"title": title, "unit": _KB}, **options)


def _count(title: str, **options: Any) -> Any:
    """A field that is a plain number, whose line is called ``title``."""
    return field(metadata={"title": title, "unit": 1}, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemInfo:
    """``.anonfs/meminfo``: sizes in bytes.

    Attributes:
        budget: what the mount may cost in memory.
        frames: the frames that take memory: those used and those free for the next page.
        loaded: pages of the mount that the kernel holds in its page cache.
        cost: what the mount costs: ``frames`` and ``loaded``.
        swap_total, swap_free: the slots of all swap areas, and those that can take a page.
        swap_cached: loaded pages that are also on swap, so that they can be dropped at once.
        swap_retired: slots that are not used any more, since they failed.
        promised, promisable: what files were promised a place for, and what is left to promise.
        locked, lockable: of what was promised, what has to stay in core; what can be locked still.
        inodes: how many there are, of any type.
        dirty: what was stored through mappings and has not been written back. Known to a daemon
            that runs as root.
        areas: the vm areas that map files.
    """

    budget: int = _memory("Budget")
    frames: int = _memory("Frames")
    frames_used: int = _memory("FramesUsed")
    frames_free: int = _memory("FramesFree")
    loaded: int = _memory("Loaded")
    cost: int = _memory("Cost")
    dirty: int | None = _memory("Dirty", default=None)
    swap_total: int = _memory("SwapTotal")
    swap_free: int = _memory("SwapFree")
    swap_cached: int = _memory("SwapCached")
    swap_retired: int = _memory("SwapRetired")
    promised: int = _memory("Promised")
    promisable: int = _memory("Promisable")
    locked: int = _memory("Locked")
    lockable: int = _memory("Lockable")
    inodes: int = _count("Inodes")
    areas: int | None = _count("Areas", default=None)
    counters: Counters = field(default_factory=Counters)

    def render(self) -> str:
        """``NAME: N kB`` or ``NAME: N`` for each, then the counters."""
        return "\n".join([*self._lines(), self.counters.render()])

    def _lines(self) -> Iterator[str]:
        for item in _fields():
            value = getattr(self, item.name)
            if value is not None:
                unit = item.metadata["unit"]
                name = f"{item.metadata['title']}:"
                amount = f"{value // unit:>{_WIDTH + 8 - len(name)}}"
                yield f"{name} {amount} kB" if unit == _KB else f"{name} {amount}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``text`` says; unknown lines are ignored.

        Raises:
            ValueError: a line is missing that is always there.
        """
        found = {title: int(value) for title, value, _ in _SIZE.findall(text)}
        values = {
            item.name: found[item.metadata["title"]] * item.metadata["unit"]
            for item in _fields()
            if item.metadata["title"] in found
        }
        try:
            return cls(**values, counters=Counters.parse(text))
        except TypeError as missing:
            raise ValueError(f"not a meminfo: {missing}") from None


def _fields() -> "list[dataclasses.Field[Any]]":
    return [item for item in dataclasses.fields(MemInfo) if "title" in item.metadata]


@dataclass(frozen=True, slots=True)
class SwapUsage:
    """A line of ``.anonfs/swaps``: one swap area, sizes in bytes.

    ``path`` is None where the area has no name (any more); ``kind`` is what it is in; ``retired``
    slots are not used any more, since they failed; ``errors`` counts the requests that did.
    """

    path: str | None
    kind: str
    size: int
    used: int
    retired: int = 0
    errors: int = 0

    def render(self) -> str:
        """``PATH TYPE SIZE USED RETIRED ERRORS`` in columns, sizes in kB.

        White space in a path is octal, as in /proc/swaps.
        """
        name = _UNLINKED if self.path is None else escaped(self.path)
        sizes = (self.size // _KB, self.used // _KB, self.retired // _KB, self.errors)
        return _columns(name, self.kind, *sizes)

    @classmethod
    def parse(cls, line: str) -> Self:
        """The area that ``line`` describes; later columns are ignored."""
        name, kind, size, used, retired, errors = line.split()[:6]
        path = None if name == _UNLINKED else unescaped(name)
        return cls(path, kind, int(size) * _KB, int(used) * _KB, int(retired) * _KB, int(errors))


def render_swaps(areas: Iterable[SwapUsage]) -> list[str]:
    """The lines of ``.anonfs/swaps``, a line of titles first."""
    return [_columns(*_TITLES), *(area.render() for area in areas)]


def parse_swaps(text: str) -> list[SwapUsage]:
    """The areas that ``.anonfs/swaps`` names."""
    return [SwapUsage.parse(line) for line in text.split("\n")[1:] if line]


def _columns(name: str, kind: str, *numbers: object) -> str:
    return f"{name:<39} {kind:<9} {' '.join(f'{number!s:<11}' for number in numbers)}".rstrip(" ")


def escaped(path: str) -> str:
    """``path`` as one word: white space and backslashes are octal, as in /proc/mounts."""
    return re.sub(r"[\s\\]", lambda match: _octal(match[0]), path)


def _octal(letter: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(letter))


def unescaped(name: str) -> str:
    """The path that `escaped` made ``name`` of."""
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), os.fsencode(name))
    return os.fsdecode(plain)
