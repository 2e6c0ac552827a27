"""Open files: what the handles that the kernel brings back stand for."""

import errno
import itertools
from dataclasses import dataclass

from anonfs.errors import AnonfsError
from anonfs.units import Ino
from anonfs.vfs import Inode

__all__ = ["OpenDirectory", "OpenFile", "OpenFiles"]


@dataclass(slots=True)
class OpenFile:
    """An open file description; ``pid`` opened it.

    One of the daemon's own is not ``counted``: it lasts as long as one write-back and refers to an
    inode that the kernel holds anyway.
    """

    inode: Inode
    pid: int
    counted: bool


@dataclass(slots=True)
class OpenDirectory:
    """An open directory, and the entries it had when it was last read from its beginning."""

    inode: Inode
    entries: list[tuple[bytes, Ino]]


class OpenFiles:
    """Handles by number; a number is not used twice."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._files: dict[int, OpenFile] = {}
        self._directories: dict[int, OpenDirectory] = {}

    def add(self, file: OpenFile) -> int:
        """A handle for ``file``."""
        number = next(self._numbers)
        self._files[number] = file
        return number

    def file(self, number: int) -> OpenFile:
        """The file of a handle. Raises AnonfsError: EBADF."""
        try:
            return self._files[number]
        except KeyError:
            raise AnonfsError(errno.EBADF, f"handle {number}") from None

    def remove(self, number: int) -> OpenFile:
        """Forget a handle. Raises AnonfsError: EBADF."""
        file = self.file(number)
        del self._files[number]
        return file

    def add_directory(self, directory: OpenDirectory) -> int:
        """A handle for ``directory``."""
        number = next(self._numbers)
        self._directories[number] = directory
        return number

    def directory(self, number: int) -> OpenDirectory:
        """The directory of a handle. Raises AnonfsError: EBADF."""
        try:
            return self._directories[number]
        except KeyError:
            raise AnonfsError(errno.EBADF, f"handle {number}") from None

    def remove_directory(self, number: int) -> None:
        """Forget a handle. Raises AnonfsError: EBADF."""
        self.directory(number)
        del self._directories[number]
