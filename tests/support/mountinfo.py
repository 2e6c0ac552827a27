"""The kernel's list of mounts, read from /proc.

Reading it asks nothing of a mounted file system, so it is safe while a daemon hangs, which
``stat`` of a mountpoint is not.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mount", "mount_at", "mount_holding", "mounts"]

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo (see proc_pid_mountinfo(5))."""

    point: str
    major: int
    minor: int
    fstype: str


def _parse(line: str) -> Mount:
    before, after = line.split(" - ", 1)
    fields = before.split(" ")
    major, minor = fields[2].split(":")
    point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
    return Mount(point, int(major), int(minor), after.split(" ")[0])


def mounts() -> list[Mount]:
    """Every mount that this process sees, the latest last."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    return [_parse(line) for line in text.splitlines()]


def mount_at(point: str | Path) -> Mount | None:
    """The topmost mount on exactly ``point``, which is an absolute path without links."""
    found = [mount for mount in mounts() if mount.point == str(point)]
    return found[-1] if found else None


def mount_holding(path: str | Path) -> Mount:
    """The mount that ``path`` lies in, by its name alone."""
    parts = os.path.abspath(path).rstrip("/") + "/"  # noqa: PTH100  resolve() would stat
    held = [mount for mount in mounts() if parts.startswith(mount.point.rstrip("/") + "/")]
    longest = max(len(mount.point) for mount in held)
    return [mount for mount in held if len(mount.point) == longest][-1]
