"""The errors that the client words itself.

Each is an ``OSError`` with a fixed errno, and its ``strerror`` is one line that says what is
wrong and what to do. What the kernel refuses (no such file, no space) stays the plain ``OSError``
that it is, with the path filled in.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

from anonfs.client._mount_table import mount_of
from anonfs.errors import AnonfsError

__all__ = [
    "BadNameError",
    "ClientError",
    "DaemonGoneError",
    "NoMountError",
    "NotAnonfsError",
    "explained",
]


class ClientError(AnonfsError):
    """A request that the client refuses or cannot carry out; ``strerror`` is a whole line."""

    number: ClassVar[int] = errno.EINVAL

    def __init__(self, line: str) -> None:
        OSError.__init__(self, self.number, line)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (str(self.strerror),)


class NoMountError(ClientError):
    """There is no anonfs mount where one was looked for (ENODEV)."""

    number = errno.ENODEV


class DaemonGoneError(ClientError):
    """There is a mount, but nothing answers behind it (ENOTCONN)."""

    number = errno.ENOTCONN

    @classmethod
    def at(cls, mount: str | os.PathLike[str]) -> Self:
        """The error for the mount at ``mount``."""
        place = os.fspath(mount)
        return cls(f"the daemon of {place} is gone: run anonfs mount {place}")


class NotAnonfsError(ClientError):
    """A file that was to be looked at is not one of anonfs (ENOTSUP)."""

    number = errno.ENOTSUP


class BadNameError(ClientError, ValueError):
    """A name that is empty, absolute, or leads out of the mount (EINVAL)."""


@contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give the errors of system calls their whole ``path``, and a dead daemon its own error."""
    try:
        yield
    except ClientError:
        raise
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise DaemonGoneError.at(mount_of(path) or path) from error
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
