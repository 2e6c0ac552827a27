"""Directories: the names in one, kept in the image and found through a dict."""

import errno
from collections.abc import Container
from typing import NamedTuple

from anonfs.errors import AnonfsError
from anonfs.mm import NameTable
from anonfs.units import Ino

__all__ = ["NAME_MAX", "Directory", "check_name"]

NAME_MAX = 255
"""The longest name, in bytes; the kernel lets 1024 pass."""


class _Entry(NamedTuple):
    row: int
    ino: Ino


def check_name(name: bytes) -> bytes:
    """``name``, if a directory can hold it.

    Raises:
        AnonfsError: ENAMETOOLONG, or EINVAL for what no path component can be.
    """
    if len(name) > NAME_MAX:
        raise AnonfsError(errno.ENAMETOOLONG)
    if name in {b"", b".", b".."} or b"/" in name or b"\0" in name:
        raise AnonfsError(errno.EINVAL, "not the name of a directory entry")
    return name


class Directory:
    """The entries of directory ``ino``, which is in directory ``parent`` (the root in itself)."""

    __slots__ = ("_entries", "_ino", "_names", "parent")

    def __init__(self, ino: Ino, parent: Ino, names: NameTable) -> None:
        self.parent = parent
        self._ino = ino
        self._names = names
        self._entries: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: bytes) -> Ino | None:
        """The inode that ``name`` means, or None."""
        entry = self._entries.get(name)
        return entry.ino if entry else None

    def get(self, name: bytes) -> Ino:
        """The inode that ``name`` means.

        Raises:
            AnonfsError: ENOENT.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise AnonfsError(errno.ENOENT)
        return entry.ino

    def add(self, name: bytes, ino: Ino) -> None:
        """Enter a name that is not there. Raises AnonfsError: ENOSPC."""
        self._entries[name] = _Entry(self._names.add(self._ino, name, ino), ino)

    def point(self, name: bytes, ino: Ino) -> None:
        """Let a name that is there mean another inode."""
        row = self._entries[name].row
        self._names.point(row, ino)
        self._entries[name] = _Entry(row, ino)

    def remove(self, name: bytes) -> None:
        """Take a name out."""
        self._names.remove(self._entries.pop(name).row)

    def names_of(self, inos: Container[Ino]) -> list[bytes]:
        """The names that mean one of ``inos``."""
        return [name for name, entry in self._entries.items() if entry.ino in inos]

    def snapshot(self) -> list[tuple[bytes, Ino]]:
        """The names and inodes of this moment, oldest first."""
        return [(name, entry.ino) for name, entry in self._entries.items()]
