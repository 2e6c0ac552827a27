"""The page cache as a program can see and empty it: mincore(2) and posix_fadvise(2)."""

import ctypes
import mmap
import os

import numpy as np

from anonfs.units import pages_for

__all__ = ["drop", "resident_pages"]

_libc = ctypes.CDLL(None, use_errno=True)


def drop(fd: int) -> None:
    """Have the kernel write back and drop the pages of a file that nobody has mapped."""
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def resident_pages(fd: int, size: int) -> int:
    """How many pages of the first ``size`` bytes of a file the page cache holds."""
    found = np.zeros(pages_for(size), np.uint8)
    with mmap.mmap(fd, size) as area:
        # Looked at through the mapping, but no page of it is touched.
        start = ctypes.c_char.from_buffer(area)
        result = _libc.mincore(
            ctypes.byref(start), ctypes.c_size_t(size), found.ctypes.data_as(ctypes.c_void_p)
        )
        del start
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(np.count_nonzero(found & 1))
