"""The kernel's mount table: what is mounted where.

It is the only source, read anew each time: mounts come and go, and a few dozen lines cost
microseconds.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "FS_TYPE",
    "Mount",
    "anonfs_at",
    "anonfs_mounts",
    "mount_at",
    "mount_of",
    "mount_of_descriptor",
    "mounts_of_device",
]

FS_TYPE = "fuse.anonfs"
"""How the kernel's mount table calls an anonfs."""

MOUNT_INFO = Path("/proc/self/mountinfo")

_MOUNT_ID = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of the mount table: where, what, and its (major, minor) device."""

    point: Path
    fs_type: str
    device: tuple[int, int]


def _unescaped(field: bytes) -> str:
    """A field of the mount table, where space, tab, newline and backslash are octal (fstab(5))."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field))


def _mount_table() -> list[Mount]:
    """The mounts that can be reached, oldest first; one that is mounted over is left out."""
    seen: dict[Path, Mount] = {}
    for line in MOUNT_INFO.read_bytes().splitlines():
        mount = _parsed(line)
        seen.pop(mount.point, None)
        seen[mount.point] = mount
    return list(seen.values())


def _parsed(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    fields = before.split(b" ")
    major, minor = fields[2].split(b":")
    fs_type = os.fsdecode(after.split(b" ")[0])
    return Mount(Path(_unescaped(fields[4])), fs_type, (int(major), int(minor)))


def mount_at(point: Path) -> Mount | None:
    """What is mounted at ``point``, an absolute path, found without touching it.

    A mount whose daemon hangs would not answer.
    """
    return next((mount for mount in _mount_table() if mount.point == point), None)


def anonfs_mounts() -> list[Path]:
    """The mountpoints of every anonfs that this process can see, oldest first."""
    return [mount.point for mount in _mount_table() if mount.fs_type == FS_TYPE]


def anonfs_at(directory: str | os.PathLike[str]) -> Path | None:
    """The mountpoint that ``directory`` means, if an anonfs is mounted there.

    The mountpoint itself is not touched, since its daemon may not answer.
    """
    given = Path(directory)
    for point in (given.parent.resolve() / given.name, Path(os.path.realpath(given))):
        mount = mount_at(point)
        if mount is not None:
            return point if mount.fs_type == FS_TYPE else None
    return None


def mounts_of_device(device: int) -> list[Path]:
    """Where the anonfs with the device number ``device`` (st_dev) is mounted, oldest first."""
    number = os.major(device), os.minor(device)
    mounts = [mount for mount in _mount_table() if mount.fs_type == FS_TYPE]
    return [mount.point for mount in mounts if mount.device == number]


def mount_of(path: str | os.PathLike[str]) -> Path | None:
    """The mountpoint of the anonfs that ``path`` lies in, or None where it lies in no anonfs."""
    resolved = Path(os.path.realpath(path))
    mounts = {mount.point: mount for mount in _mount_table()}
    around = (mounts.get(place) for place in (resolved, *resolved.parents))
    nearest = next(filter(None, around), None)
    return nearest.point if nearest and nearest.fs_type == FS_TYPE else None


def mount_of_descriptor(descriptor: int) -> Mount | None:
    """The mount that an open file is of, or None where it cannot be reached any more.

    Nobody is asked but the kernel: stat(2) would ask the daemon of an anonfs.
    """
    status = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes()
    found = _MOUNT_ID.search(status)
    start = b"%d " % int(found[1]) if found is not None else b"none"
    lines = MOUNT_INFO.read_bytes().splitlines()
    return next((_parsed(line) for line in lines if line.startswith(start)), None)
