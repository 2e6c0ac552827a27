"""The kernel's mount table: what is mounted where.

It is the only source, read anew each time: mounts come and go, and a few dozen lines cost
microseconds.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["anonfs_mounts", "is_mountpoint", "mount_of"]

FS_TYPE = "fuse.anonfs"
"""How the kernel's mount table calls an anonfs."""

PROC_MOUNTS = Path("/proc/self/mounts")

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Mount:
    """A line of the mount table: where, and what."""

    point: Path
    fs_type: str


def _unescaped(field: bytes) -> str:
    """A field of the mount table, where space, tab, newline and backslash are octal (fstab(5))."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))


def _mount_table() -> list[_Mount]:
    """The mounts that can be reached, oldest first; one that is mounted over is left out."""
    seen: dict[str, _Mount] = {}
    for line in PROC_MOUNTS.read_bytes().splitlines():
        fields = line.split(b" ")
        if len(fields) < 3:
            continue
        point = _unescaped(fields[1])
        seen.pop(point, None)
        seen[point] = _Mount(Path(point), os.fsdecode(fields[2]))
    return list(seen.values())


def anonfs_mounts() -> list[Path]:
    """The mountpoints of every anonfs that this process can see, oldest first."""
    return [mount.point for mount in _mount_table() if mount.fs_type == FS_TYPE]


def is_mountpoint(directory: str | os.PathLike[str]) -> bool:
    """Whether an anonfs is mounted at ``directory`` itself, its daemon alive or not."""
    return Path(os.path.realpath(directory)) in anonfs_mounts()


def mount_of(path: str | os.PathLike[str]) -> Path | None:
    """The mountpoint of the anonfs that ``path`` lies in, or None where it lies in no anonfs."""
    resolved = Path(os.path.realpath(path))
    around = [mount for mount in _mount_table() if resolved.is_relative_to(mount.point)]
    nearest = max(around, key=lambda mount: len(mount.point.parts), default=None)
    return nearest.point if nearest and nearest.fs_type == FS_TYPE else None
