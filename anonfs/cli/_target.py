"""FILE on the command line: a path as the shell means it, or else a name in the mount."""

import os
from dataclasses import dataclass
from pathlib import Path

from anonfs.client import BadNameError, Inspection, NoMountError, connect, inspect, mount_of

__all__ = ["Looked", "located", "look", "placed"]


@dataclass(frozen=True, slots=True)
class Looked:
    """A file, its size in bytes, and what anonfs tells of it."""

    path: Path
    size: int
    inspection: Inspection


def located(file: str) -> Path:
    """The path that ``file`` means: itself where it exists, else below the mount."""
    path = Path(file)
    if path.is_absolute() or os.path.lexists(path):
        return path
    try:
        named = connect().path(file)
    except (BadNameError, NoMountError):
        return path
    return named if named.exists() else path


def placed(file: str) -> Path:
    """The path that ``file``, which need not exist, means: itself in an anonfs, else below one."""
    path = Path(file)
    if path.is_absolute() or mount_of(path.parent) is not None:
        return path
    try:
        return connect().path(file)
    except (BadNameError, NoMountError):
        return path


def look(file: str) -> Looked:
    """Inspect the file that ``file`` means.

    Raises:
        OSError: there is none, or it is not of an anonfs.
    """
    path = located(file)
    inspection = inspect(path)
    return Looked(path, path.stat().st_size, inspection)
