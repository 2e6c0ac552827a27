"""Which file a constructor's arguments mean, and whether it is there or new.

``exist_ok`` makes a new file if it can, and takes the one that is there if not. So who made it is
known, and takes the name away again if there is no room for it.
"""

import os
from dataclasses import dataclass

from anonfs.client import Client, File
from anonfs.shm._names import errors_about, file_name, random_name

__all__ = ["Opening"]


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a segment.

    Attributes:
        name: as it was given; None makes one up.
        flags: those of open(2).
        mode: the permissions of a new file.
        exist_ok: whether one that exists will do for one that was to be new.
    """

    name: str | None
    flags: int
    mode: int
    exist_ok: bool

    def __post_init__(self) -> None:
        """Raises ValueError, as the standard library does."""
        if self.name is None and not self.flags & os.O_EXCL:
            raise ValueError("'name' can only be None if create=True")

    def open(self, fs: Client) -> tuple[File, str, bool]:
        """The file, its name with the slash, and whether it was made just now.

        Raises:
            OSError: as shm_open(3).
        """
        is_new = bool(self.flags & os.O_EXCL)
        given = None if self.name is None else "/" + self.name
        if given is None or not (is_new and self.exist_ok):
            return *self._open(fs, given, self.flags), is_new
        while True:
            try:
                return *self._open(fs, given, self.flags), True
            except FileExistsError:
                pass
            try:
                return *self._open(fs, given, os.O_RDWR), False
            except FileNotFoundError:  # its name was taken away meanwhile
                pass

    def _open(self, fs: Client, given: str | None, flags: int) -> tuple[File, str]:
        while True:
            name = given or random_name()
            try:
                with errors_about(name):
                    file = fs.open(file_name(name), flags=flags | os.O_NOFOLLOW, mode=self.mode)
            except FileExistsError:
                if given:
                    raise
            else:
                return file, name
