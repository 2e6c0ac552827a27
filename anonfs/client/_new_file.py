"""Files that have their name when they are complete, and leave nothing behind before.

Until then such a file has no name: it goes with whoever makes it, at whatever moment he is killed.
It has a random one where there is no O_TMPFILE, as in FUSE before Linux 6.1, and between linkat and
rename where it is to replace another file. While it has, its maker holds it locked by flock(2). So
what can be locked was left behind by somebody who is no more, and the next one who needs such a
name takes it away.
"""

import errno
import fcntl
import os
import re
import secrets
from contextlib import suppress
from types import TracebackType
from typing import Self

__all__ = ["NewFile"]

_FLAGS = os.O_RDWR | os.O_CLOEXEC
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
_RANDOM_BYTES = 16


class NewFile:
    """An empty file of mode 0600 in ``directory``, open for reading and writing.

    ``directory`` is a descriptor, which may be O_PATH and stays open; ``prefix`` is what names that
    are not to stay begin with.

    Attributes:
        descriptor: closed at the end of the context.
    """

    def __init__(self, directory: int, prefix: str) -> None:
        """Make the file. Raises OSError: as open(2)."""
        self._directory = directory
        self._prefix = prefix
        self._name: str | None = None
        try:
            self.descriptor = os.open(".", _FLAGS | os.O_TMPFILE, 0o600, dir_fd=directory)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            self.descriptor, self._name = self._named()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._name is not None:
                with suppress(FileNotFoundError):
                    os.unlink(self._name, dir_fd=self._directory)
        finally:
            os.close(self.descriptor)

    def link(self, name: str) -> None:
        """Give it a name that is nobody's. Raises OSError: EEXIST; as linkat(2)."""
        os.link(self._path, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def replace(self, name: str) -> None:
        """Give it the name of another file, at once. Raises OSError: as linkat(2), rename(2)."""
        if self._name is None:
            self._take_leftovers()
            _lock(self.descriptor)
            temporary = self._random_name()
            self.link(temporary)
            self._name = temporary
        os.rename(self._name, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._name = None

    @property
    def _path(self) -> str:
        """A name to link it by; that of the descriptor leads to the file though it has none."""
        return self._name or f"/proc/self/fd/{self.descriptor}"

    def _random_name(self) -> str:
        return f"{self._prefix}{secrets.token_hex(_RANDOM_BYTES)}"

    def _named(self) -> tuple[int, str]:
        """A file that has a name from the beginning, and is locked."""
        self._take_leftovers()
        while True:
            name = self._random_name()
            made = os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._directory)
            _lock(made)
            if os.fstat(made).st_nlink:
                return made, name
            os.close(made)  # somebody took it for left behind

    def _take_leftovers(self) -> None:
        """Take away what others have left, as far as that may be and is certain."""
        pattern = re.compile(re.escape(self._prefix) + f"[0-9a-f]{{{2 * _RANDOM_BYTES}}}")
        with suppress(OSError):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            listed = os.open(".", flags, dir_fd=self._directory)
            try:
                names = os.listdir(listed)  # noqa: PTH208  it is a descriptor
            finally:
                os.close(listed)
            for name in filter(pattern.fullmatch, names):
                with suppress(OSError):
                    self._take_away(name)

    def _take_away(self, name: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        left = os.open(name, flags, dir_fd=self._directory)
        try:
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been renamed before it was let go.
            now = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
            if os.path.samestat(now, os.fstat(left)):
                os.unlink(name, dir_fd=self._directory)
        finally:
            os.close(left)


def _lock(descriptor: int) -> None:
    """Lock a file against being taken away; where there is no flock(2) nobody takes any."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
