"""Open files: what the handles that the kernel brings back stand for."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pyfuse3 import FileHandleT

from anonfs.errors import AnonfsError
from anonfs.units import Ino
from anonfs.vfs import Inode

__all__ = ["Handles", "OpenDirectory", "OpenFile"]

_T = TypeVar("_T")


@dataclass(slots=True)
class OpenFile:
    """An open file description; ``pid`` opened it, and ``writes`` if it is not only to read."""

    inode: Inode
    pid: int
    writes: bool


@dataclass(slots=True)
class OpenDirectory:
    """An open directory, and the entries it had when it was last read from its beginning."""

    inode: Inode
    entries: list[tuple[bytes, Ino]]


class Handles(Generic[_T]):
    """What is open, by the handle that the kernel brings back.

    Tables that share ``numbers`` have no handle in common; none is used twice.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._open: dict[int, _T] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._open

    def __iter__(self) -> Iterator[_T]:
        return iter(self._open.values())

    def add(self, opened: _T) -> FileHandleT:
        """A handle for ``opened``."""
        number = next(self._numbers)
        self._open[number] = opened
        return FileHandleT(number)

    def get(self, number: int) -> _T:
        """What a handle stands for. Raises AnonfsError: EBADF."""
        try:
            return self._open[number]
        except KeyError:
            raise AnonfsError(errno.EBADF, f"handle {number}") from None

    def remove(self, number: int) -> _T:
        """Forget a handle; returns what it stood for. Raises AnonfsError: EBADF."""
        opened = self.get(number)
        del self._open[number]
        return opened
