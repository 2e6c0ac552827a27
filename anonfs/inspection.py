"""The inspection attributes as text: written by the daemon, read by the client.

Each type here is one extended attribute, with ``render`` and ``parse`` side by side so that the
two cannot drift apart. The text is for people and for programs: one fact a word or one a line.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from anonfs.meminfo import escaped, unescaped

__all__ = [
    "NEVER",
    "PREFIX",
    "XATTR_MAX",
    "Area",
    "Attaches",
    "Counts",
    "Front",
    "Lock",
    "PageCounts",
    "PageRun",
    "Parent",
    "Reap",
    "Reserved",
    "bounded_lines",
    "parse_lines",
]

PREFIX = "user.anonfs."
"""What the name of every inspection attribute begins with."""

XATTR_MAX = 65536
"""The kernel's bound on the size of an extended attribute, in bytes (XATTR_SIZE_MAX)."""

_MORE = "..."
_ATTACHES = ("nattch", "lpid", "atime", "dtime")
_STATES = ("total", "none", "in_core", "on_swap", "front")
_COUNTS = ("dentry", "areas", "opens", "links", "loaded_ptes")


def _words(text: str, names: tuple[str, ...]) -> list[int]:
    found = dict(re.findall(r"(\w+)=(\d+)", text))
    try:
        return [int(found[name]) for name in names]
    except KeyError as missing:
        raise ValueError(f"no {missing} in {text!r}") from None


@dataclass(frozen=True, slots=True)
class PageCounts:
    """``user.anonfs.pages``: the pages of an inode by state; ``front`` are those of an overlay."""

    total: int
    none: int
    in_core: int
    on_swap: int
    front: int = 0

    def render(self) -> str:
        """``total=N none=N in_core=N on_swap=N front=N``."""
        return " ".join(f"{name}={getattr(self, name)}" for name in _STATES)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The counts in ``text``; unknown words are ignored."""
        return cls(*_words(text, _STATES))


@dataclass(frozen=True, slots=True)
class Reserved:
    """``user.anonfs.reserved``: the pages of an inode that have a place for certain.

    Those up to its size or, where the mount overcommits, those that exist.
    """

    pages: int

    def render(self) -> str:
        """``pages=N``."""
        return f"pages={self.pages}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The count in ``text``; unknown words are ignored."""
        return cls(*_words(text, ("pages",)))


@dataclass(frozen=True, slots=True)
class Reap:
    """``user.anonfs.reap``: when all names of a file are taken away without anybody's asking.

    ``never`` is the default. With ``last-area`` they go when the last vm area of the file is
    closed; with ``last-attach`` when the last one is that a process of process group ``group`` has,
    whoever else has it mapped. Where ``group`` is 0 the group of whoever writes it is meant.
    """

    policy: str
    group: int = 0

    def render(self) -> str:
        """``never``, ``last-area`` or ``last-attach PGID``."""
        return f"{self.policy} {self.group}" if self.group else self.policy

    @classmethod
    def parse(cls, text: str) -> Self:
        """The policy in ``text``."""
        match = re.fullmatch(r"(never|last-area|last-attach(?: ([1-9]\d{0,9}))?)", text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not never, last-area or last-attach [PGID]")
        return cls(match[1].split()[0], int(match[2] or 0))


@dataclass(frozen=True, slots=True)
class Parent:
    """``user.anonfs.parent``: the number of the inode that this one was copied from.

    0 of one that was not, and of one whose parent is gone.
    """

    ino: int

    def render(self) -> str:
        """``INO`` or ``none``."""
        return str(self.ino) if self.ino else "none"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The parent that ``text`` names."""
        return cls(0 if text.strip() == "none" else int(text))


@dataclass(frozen=True, slots=True)
class Front:
    """``user.anonfs.front``: the file that an overlay shows where it was not written to.

    ``device`` and ``ino`` are as of stat(2), ``size`` is what it had when the overlay was made, or
    was committed last, in bytes, and ``path`` what it is called now: `` (deleted)`` is at the end
    of it where that name means another file, or none.
    """

    device: int
    ino: int
    size: int
    path: str

    def render(self) -> str:
        """``device=N inode=N size=N path=PATH``, white space in the path as octal numbers."""
        words = f"device={self.device} inode={self.ino} size={self.size}"
        return f"{words} path={escaped(self.path)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The front in ``text``; unknown words are ignored."""
        path = re.search(r"path=(\S+)", text)
        if path is None:
            raise ValueError(f"no path in {text!r}")
        device, ino, size = _words(text, ("device", "inode", "size"))
        return cls(device, ino, size, unescaped(path[1]))


NEVER = Reap("never")
"""What a file says of its reaping if nobody has said anything else."""


@dataclass(frozen=True, slots=True)
class Lock:
    """``user.anonfs.lock``: whether the pages of an inode stay in core, out of swap."""

    on: bool

    def render(self) -> str:
        """``on`` or ``off``."""
        return "on" if self.on else "off"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The state in ``text``."""
        if text.strip() not in {"on", "off"}:
            raise ValueError(f"{text!r} is not on or off")
        return cls(text.strip() == "on")


@dataclass(frozen=True, slots=True)
class PageRun:
    """A line of ``user.anonfs.pagemap``: neighbouring pages in one state, ends included."""

    first: int
    last: int
    state: str

    def render(self) -> str:
        """``FIRST-LAST STATE``."""
        return f"{self.first}-{self.last} {self.state}"

    @classmethod
    def parse(cls, line: str) -> Self:
        """The run that ``line`` describes."""
        span, state = line.split()
        first, last = span.split("-")
        return cls(int(first), int(last), state)


@dataclass(frozen=True, slots=True)
class Area:
    """A line of ``user.anonfs.ring``: one vm area of one process.

    ``start`` and ``end`` are addresses, None where the reader may not know them; ``offset`` is
    the byte of the inode that ``start`` maps; ``perms`` is as in /proc/PID/maps. ``how`` it is
    known is ``attached``, the kernel reports what happens to it, or ``observed``. ``pid`` is None
    for a child of an attached process of which only its birth is known yet.
    """

    pid: int | None
    start: int | None
    end: int | None
    offset: int
    perms: str
    how: str = "observed"

    def render(self) -> str:
        """``PID START-END OFFSET PERMS HOW``, PID or ``?``, addresses in hex or ``-``."""
        span = "-" if self.start is None or self.end is None else f"{self.start:x}-{self.end:x}"
        pid = "?" if self.pid is None else self.pid
        return f"{pid} {span} {self.offset} {self.perms} {self.how}"

    @classmethod
    def parse(cls, line: str) -> Self:
        """The area that ``line`` describes."""
        shown, span, offset, perms, *more = line.split()
        pid = None if shown == "?" else int(shown)
        how = more[0] if more else "observed"
        if span == "-":
            return cls(pid, None, None, int(offset), perms, how)
        start, end = span.split("-")
        return cls(pid, int(start, 16), int(end, 16), int(offset), perms, how)


@dataclass(frozen=True, slots=True)
class Counts:
    """``user.anonfs.count``: who refers to an inode.

    ``dentry`` is the reference count of its dentry: one for each area, each open, each link, and
    one while the kernel's own caches hold it. The inode is deleted when it reaches zero.
    ``loaded_ptes`` is how many page table entries of the areas are loaded, over all pages; the
    seed's count of a page is the number of those that refer to it, plus one.
    """

    dentry: int
    areas: int
    opens: int
    links: int
    loaded_ptes: int

    def render(self) -> str:
        """``dentry=N areas=N opens=N links=N loaded_ptes=N``."""
        return " ".join(f"{name}={getattr(self, name)}" for name in _COUNTS)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The counts in ``text``; unknown words are ignored."""
        return cls(*_words(text, _COUNTS))


@dataclass(frozen=True, slots=True)
class Attaches:
    """``user.anonfs.attaches``: the vm areas of an inode as System V tells of them.

    ``nattch`` areas map it. ``lpid`` mapped or unmapped it last, at a fork the parent; ``atime``
    and ``dtime`` are when the last one began and ended, in seconds since the epoch. 0 is never.
    """

    nattch: int
    lpid: int
    atime: int
    dtime: int

    def render(self) -> str:
        """``nattch=N lpid=N atime=SECONDS dtime=SECONDS``."""
        return " ".join(f"{name}={getattr(self, name)}" for name in _ATTACHES)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The facts in ``text``; unknown words are ignored."""
        return cls(*_words(text, _ATTACHES))


def bounded_lines(lines: Iterable[str], limit: int = XATTR_MAX) -> str:
    """``lines`` joined by newlines, cut before ``limit`` bytes with a last line ``...``."""
    room = limit - len(_MORE) - 1
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            kept.append(_MORE)
            break
        kept.append(line)
    return "".join(f"{line}\n" for line in kept)


def parse_lines(text: str) -> tuple[list[str], bool]:
    """The lines of a bounded attribute, and whether it was complete."""
    lines = text.splitlines()
    if lines and lines[-1] == _MORE:
        return lines[:-1], False
    return lines, True
