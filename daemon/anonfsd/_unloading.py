"""Unloading: pages leave the page tables of all mappers and the page cache.

The order is the seed's: the dirty ones are written back, then the loaded PTEs are cleared, for they
are what makes a page busy. The first is for speed alone, since the invalidation writes back too,
but a page at a time; and it needs root.

Both wait for requests that the kernel makes of the daemon, so they are for threads that hold no
lock, and never for the one that answers.
"""

import contextlib
import ctypes
import errno
import logging
import os
import struct
from collections.abc import Iterator

from anonfs.errors import AnonfsError
from anonfs.units import PAGE_SHIFT
from anonfsd._own_files import OwnFiles

__all__ = ["Unloading"]

log = logging.getLogger(__name__)

_NOTIFY_INVAL_INODE = 2
_INVALIDATE = struct.Struct("=IiQQqq")  # len, code, unique; inode, offset, length
_NEAR = 64  # pages
_WAIT, _SYNC = 1, 2  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE
_SYNC_ALL = _WAIT | _SYNC | 4  # and WAIT_AFTER

_libc = ctypes.CDLL(None, use_errno=True)


class Unloading:
    """Drops pages of the mount that is connected by ``device``."""

    def __init__(self, device: int, files: OwnFiles) -> None:
        self._device = device
        self._files = files

    def drop(self, ino: int, runs: list[tuple[int, int]], upcoming: list[tuple[int, int]]) -> None:
        """Write back and drop ``runs`` of pages (first, count) of an inode.

        ``upcoming`` are those that are to be dropped next: it only begins to write them back, so
        that the daemon takes WRITEs while the kernel drops pages.

        Raises OSError: that of a write that failed, and nothing was dropped.
        """
        self._write_back(ino, runs, upcoming)
        for first, count in runs:
            self._invalidate(ino, first << PAGE_SHIFT, count << PAGE_SHIFT)

    def write_back(self, ino: int) -> bool:
        """Write back what is dirty of an inode, all of it; False where that cannot be had.

        Nothing is dropped. It takes root, and an inode that the kernel knows.

        Raises OSError: that of a write that failed.
        """
        try:
            with self._files.open(ino) as fd:
                _sync_file_range(fd, 0, 0, _SYNC_ALL)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ESTALE}:
                raise
            return False
        return True

    def settle(self, ino: int) -> None:
        """Wait until each WRITE of an inode that was under way has been answered.

        It takes the lock of the inode. Raises OSError: a write that failed.
        """
        try:
            with self._files.open(ino) as fd:
                os.fdatasync(fd)
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ESTALE}:
                raise

    def forget_attributes(self, ino: int) -> None:
        """Have the kernel forget the attributes of an inode that it did not change itself."""
        self._invalidate(ino, -1, 0)

    def _write_back(
        self, ino: int, runs: list[tuple[int, int]], upcoming: list[tuple[int, int]]
    ) -> None:
        try:
            with self._files.open(ino) as fd:
                for first, count in [*runs, *upcoming]:
                    _sync_file_range(fd, first << PAGE_SHIFT, count << PAGE_SHIFT, _SYNC)
                for first, count in _spans(runs):
                    _sync_file_range(fd, first << PAGE_SHIFT, count << PAGE_SHIFT, _WAIT)
        except OSError as error:
            # Any other error is one of a write: its page would be lost by the invalidation.
            if error.errno not in {errno.EPERM, errno.ESTALE}:
                raise
            log.debug("write-back of inode %d: %s", ino, error)

    def _invalidate(self, ino: int, offset: int, length: int) -> None:
        message = _INVALIDATE.pack(_INVALIDATE.size, _NOTIFY_INVAL_INODE, 0, ino, offset, length)
        # Not found: the kernel's caches do not hold it, so there is nothing to drop.
        with contextlib.suppress(FileNotFoundError):
            os.write(self._device, message)


def _spans(runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """``runs`` as fewer ones, with what is between those that are near: waiting costs by the call.

    What is begun already but not to be waited for, the upcoming pages, is further away mostly.
    """
    runs = sorted(runs)
    begin, end = runs[0][0], 0
    for first, count in runs:
        if end and first - end > _NEAR:
            yield begin, end - begin
            begin = first
        end = first + count
    yield begin, end - begin


def _sync_file_range(fd: int, offset: int, length: int, flags: int) -> None:
    if _libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), flags) < 0:
        raise AnonfsError(ctypes.get_errno())
