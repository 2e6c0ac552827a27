"""Stores: where the bytes of swapped pages are.

A store is the only thing here that blocks, so its calls are made from threads; it keeps no state
that a second thread could break. Offsets and sizes are bytes, multiples of a page.
"""

import bisect
import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol, Self

from anonfs.errors import AnonfsError
from anonfs.swap._async_reads import AsyncReads
from anonfs.units import PAGE_SIZE

__all__ = ["FileStore", "MemoryStore", "SwapStore"]


_IOV_MAX = os.sysconf("SC_IOV_MAX")
_DIRECTORY = Path("/var/tmp")  # noqa: S108  a disk, unlike /tmp often
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR}  # file systems without O_TMPFILE, as NFS


class SwapStore(Protocol):
    """Bytes at offsets; the seam below which a device or another host may stand.

    The buffers that it is given are page-aligned, see `aligned_pages`.
    """

    @property
    def size(self) -> int:
        """The bytes that the store holds."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``. Raises OSError, EIO for a short read."""

    def write_from(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Write ``buffers``, one after the other, at ``offset``.

        Raises OSError, EIO for a short write.
        """

    def async_reads(self, most: int) -> AsyncReads | None:
        """What reads up to ``most`` pages side by side; None where that gains nothing."""

    def close(self) -> None:
        """Give the store back; its bytes are gone unless it has a name."""


class FileStore:
    """A swap file, mode 0600, without a name unless it is to be kept.

    Its blocks are allocated when it is made, as mkswap(8) asks for: a full disk is found at start
    and not by a page that has nowhere to go. It goes past the page cache of its disk where its file
    system lets it: what is swapped out must not stay in memory, and is written several times as
    fast.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size

    @classmethod
    def create(cls, path: Path | None, size: int, *, keep: bool = False) -> Self:
        """A new swap file of ``size`` bytes at ``path``, or a nameless one in /var/tmp.

        Raises:
            OSError: the path is a directory, exists, is not writable, or its disk is full; nothing
                is left of the file then.
        """
        fd = _named(path) if keep and path is not None else _nameless(path)
        try:
            os.posix_fallocate(fd, 0, size)
            _bypass_page_cache(fd)
        except BaseException:
            os.close(fd)
            if keep and path is not None:
                path.unlink()
            raise
        return cls(fd, size)

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from the file."""
        while buffer:
            done = os.preadv(self._fd, [buffer], offset)
            if done == 0:
                raise AnonfsError(errno.EIO, f"the swap file ends before byte {offset}")
            offset, buffer = offset + done, buffer[done:]

    def write_from(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Write ``buffers`` to the file."""
        while buffers:
            done = os.pwritev(self._fd, buffers[:_IOV_MAX], offset)
            if done == 0:
                raise AnonfsError(errno.EIO, f"nothing could be written at byte {offset}")
            offset, buffers = offset + done, _beyond(buffers, done)

    def async_reads(self, most: int) -> AsyncReads | None:
        """Reads past the page cache; None where the file system or the kernel has none."""
        if not fcntl.fcntl(self._fd, fcntl.F_GETFL) & os.O_DIRECT:
            return None
        try:
            return AsyncReads(self._fd, most)
        except OSError:
            return None

    def close(self) -> None:
        """Close the file, which frees its blocks if it has no name."""
        os.close(self._fd)


def _named(path: Path) -> int:
    """A new file at ``path``."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def _nameless(path: Path | None) -> int:
    """A file on the disk of ``path``, or of /var/tmp, that a kill at any time leaves nothing of."""
    if path is not None:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    directory = path.parent if path is not None else _DIRECTORY
    try:
        return os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
    named = path or directory / f"anonfs-swap-{os.urandom(8).hex()}"
    fd = _named(named)
    named.unlink()
    return fd


def _beyond(buffers: Sequence[memoryview], done: int) -> Sequence[memoryview]:
    """What is left of ``buffers`` after their first ``done`` bytes."""
    ends = list(accumulate(map(len, buffers)))
    first = bisect.bisect_right(ends, done)
    if first == len(buffers):
        return []
    return [buffers[first][done - ends[first] :], *buffers[first + 1 :]]


def _bypass_page_cache(fd: int) -> None:
    """Set O_DIRECT, if the file system has it."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)


class MemoryStore:
    """A store in ordinary memory: for tests and for hosts without a disk."""

    def __init__(self, pages: int) -> None:
        self._bytes = memoryview(bytearray(pages * PAGE_SIZE))

    @property
    def size(self) -> int:
        """The bytes held."""
        return len(self._bytes)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Copy into ``buffer``."""
        buffer[:] = self._bytes[offset : offset + len(buffer)]

    def write_from(self, offset: int, buffers: Sequence[memoryview]) -> None:
        """Copy from ``buffers``."""
        for buffer in buffers:
            self._bytes[offset : offset + len(buffer)] = buffer
            offset += len(buffer)

    def async_reads(self, most: int) -> None:
        """Nothing that would have to be waited for."""

    def close(self) -> None:
        """Nothing to give back."""
