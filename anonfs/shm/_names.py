"""Names of segments and the errors about them, as shm_open(3) and Python have them.

A name has a slash in front, ``/job-7``, and in errors it stays there. In the directory of the mount
it is the file ``job-7``, as it is for glibc in /dev/shm.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from anonfs.client import Client, ClientError
from anonfs.units import format_size

__all__ = ["errors_about", "file_name", "no_room", "random_name"]

_RANDOM_PREFIX = "/psm_"
_RANDOM_BYTES = 4
_SAID_OTHERWISE = {errno.EISDIR: errno.EINVAL, errno.EPERM: errno.EACCES}


def random_name() -> str:
    """A name as the standard library makes them up."""
    return _RANDOM_PREFIX + secrets.token_hex(_RANDOM_BYTES)


def file_name(name: str) -> str:
    """The file that ``name`` means.

    Raises:
        OSError: EINVAL, there is no such name: it is empty or has a slash in it.
        ValueError: it has a null in it.
    """
    file = name.lstrip("/")
    if "\0" in file:
        raise ValueError("embedded null character")
    if not file or "/" in file or file in {".", ".."}:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    return file


@contextmanager
def errors_about(name: str) -> Iterator[None]:
    """Give what the kernel says of a file the name of the segment, as shm_open(3) would."""
    try:
        yield
    except ClientError:
        raise
    except OSError as error:
        number, text = error.errno, error.strerror
        if number in _SAID_OTHERWISE:
            number = _SAID_OTHERWISE[number]
            text = os.strerror(number)
        raise OSError(number, text, name) from None


@contextmanager
def no_room(name: str, size: int, fs: Client) -> Iterator[None]:
    """Say of ENOSPC how much there is, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(errno.ENOSPC, _what_to_do(size, fs), name) from None


def _what_to_do(size: int, fs: Client) -> str:
    most = fs.limits().limits.segment
    if most is not None and size > most:
        bound = f"{format_size(most)} is the most for one segment in {fs.mount}"
        return f"{format_size(size)} do not fit, {bound}: mount with a larger --max-segment"
    space = os.statvfs(fs.mount)
    left = format_size(space.f_bavail * space.f_frsize)
    return (
        f"{format_size(size)} do not fit, {left} are left in {fs.mount}: unlink what nobody needs,"
        " or mount with a larger --budget, --swap-size or --size"
    )
