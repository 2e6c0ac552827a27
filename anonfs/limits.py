"""The limits of a mount and who uses how much, as text: written by the daemon, read by the client.

``.anonfs/limits`` has a line for each limit that is set, then one for each user with files::

    Size:               1048576 kB
    MaxPerUser:          131072 kB
    MaxFilesPerUser:        100
    uid 1000: pages=17 files=3 locked=0

What is memory is bytes here and kB in the text.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Self

__all__ = ["LimitInfo", "Limits", "Usage"]

_KB = 1024
_WIDTH = 26
_LIMIT = re.compile(r"^(\w+):\s*(\d+)(?: kB)?$", re.MULTILINE)
_USER = re.compile(r"^uid (\d+): pages=(\d+) files=(\d+) locked=(\d+)", re.MULTILINE)
_PLAIN = "files_per_user"
_TITLES = {
    "size": "Size",
    "segment": "MaxSegment",
    "per_user": "MaxPerUser",
    "files_per_user": "MaxFilesPerUser",
    "locked_per_user": "MaxLockedPerUser",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What sizes may come to, in bytes; None: no limit.

    Those of users are not for root and the mount's owner.

    Attributes:
        size: all files of the mount together.
        segment: one file.
        per_user: all files of a user together.
        files_per_user: how many files of any type a user may have; a plain number.
        locked_per_user: what a user may have locked in core.
    """

    size: int | None = None
    segment: int | None = None
    per_user: int | None = None
    files_per_user: int | None = None
    locked_per_user: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a user's files come to: ``pages`` of their sizes, ``files``, ``locked`` pages."""

    pages: int = 0
    files: int = 0
    locked: int = 0

    def plus(self, more: "Usage") -> "Usage":
        """The sum."""
        return Usage(self.pages + more.pages, self.files + more.files, self.locked + more.locked)

    def minus(self, less: "Usage") -> "Usage":
        """The difference."""
        return Usage(self.pages - less.pages, self.files - less.files, self.locked - less.locked)


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """``.anonfs/limits``: ``users`` are those that the reader may know of, by user id."""

    limits: Limits = Limits()
    users: dict[int, Usage] = field(default_factory=dict)

    def render(self) -> str:
        """``NAME: N kB`` or ``NAME: N`` for each limit, ``uid N: ...`` for each user."""
        set_ones = {name: v for name in _TITLES if (v := getattr(self.limits, name)) is not None}
        lines = [_line(name, value) for name, value in set_ones.items()]
        for uid, used in sorted(self.users.items()):
            words = " ".join(f"{name}={value}" for name, value in dataclasses.asdict(used).items())
            lines.append(f"uid {uid}: {words}")
        return "\n".join(lines)

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``text`` says; unknown lines are ignored."""
        names = {title: name for name, title in _TITLES.items()}
        limits = {
            names[title]: int(value) * (1 if names[title] == _PLAIN else _KB)
            for title, value in _LIMIT.findall(text)
            if title in names
        }
        users = {int(uid): Usage(*map(int, used)) for uid, *used in _USER.findall(text)}
        return cls(Limits(**limits), users)


def _line(name: str, value: int) -> str:
    title = f"{_TITLES[name]}:"
    unit, suffix = (1, "") if name == _PLAIN else (_KB, " kB")
    return f"{title} {value // unit:>{_WIDTH - len(title)}}{suffix}"
