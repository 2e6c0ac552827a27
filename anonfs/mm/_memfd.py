"""Sparse memory files that the image lives in.

A memfd is mapped once at its largest size and never again: address space costs nothing and memory
is allocated page by page as it is touched, so nothing ever moves and a row number is an address.
Another process that is handed the descriptors sees the same bytes.
"""

import ctypes
import mmap
import os
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt

from anonfs.errors import AnonfsError

__all__ = ["MemoryFile", "RecordTable"]

_MADV_POPULATE_WRITE = 23  # linux/mman.h, since 5.14; not in the mmap module
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_libc.mmap.restype = _pointer
_libc.mmap.argtypes = [_pointer, _size, _int, _int, _int, ctypes.c_int64]
_libc.munmap.argtypes = [_pointer, _size]
_libc.madvise.argtypes = [_pointer, _size, _int]


class MemoryFile:
    """A memfd of ``size`` bytes, mapped shared; ``name`` shows in /proc/PID/fd.

    Not through the mmap module, which would keep a second descriptor for as long as any view of
    the memory lives. The mapping goes with the last view.
    """

    def __init__(self, name: str, size: int) -> None:
        self.fd = os.memfd_create(f"anonfs-{name}", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.size = size
        self._address = _map(self.fd, size)
        memory = (ctypes.c_ubyte * size).from_address(self._address)
        weakref.finalize(memory, _libc.munmap, self._address, size).atexit = False
        self.view = memoryview(memory).cast("B")
        self.words: npt.NDArray[np.int64] = np.frombuffer(self.view, np.int64)

    def populate(self, offset: int, length: int) -> None:
        """Have the kernel allocate this range now (bytes, page-aligned); any thread.

        Raises OSError: memory ran out, or the kernel is older than 5.14.
        """
        if _libc.madvise(self._address + offset, length, _MADV_POPULATE_WRITE) != 0:
            raise AnonfsError(ctypes.get_errno(), "populating memory")

    def punch(self, offset: int, length: int) -> None:
        """Give this range (bytes, page-aligned) back to the system; it reads as zeros then.

        Raises OSError.
        """
        if _libc.madvise(self._address + offset, length, mmap.MADV_REMOVE) != 0:
            raise AnonfsError(ctypes.get_errno(), "giving memory back")

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def _map(fd: int, size: int) -> int:
    """The address of a new shared mapping of ``fd``."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address: int | None = _libc.mmap(None, size, protection, mmap.MAP_SHARED, fd, 0)
    if address is None or address == _MAP_FAILED:
        raise AnonfsError(ctypes.get_errno(), "mapping memory")
    return address


class RecordTable:
    """Rows of ``width`` 64-bit words in a memory file; row 0 is never used.

    A row is live while its word 0 is not zero, so the free list is derived and a walk over the
    file finds what is there. Fields are read and written as ``table.words[row * width + field]``.
    """

    def __init__(self, name: str, width: int, rows: int, full: int) -> None:
        self.width = width
        self.rows = rows
        self.live = 0
        self._full = full
        self._file = MemoryFile(name, width * 8 * rows)
        self.view = self._file.view
        self.words = self._file.view.cast("q")
        # The oldest first, so that a number that somebody may still remember rests for a while.
        self._free: deque[int] = deque()
        self._top = 1

    def allocate(self) -> int:
        """A row whose words are all zero; live once its word 0 is stored.

        Raises:
            AnonfsError: the errno that was given for a full table.
        """
        if self._free:
            row = self._free.popleft()
        elif self._top < self.rows:
            row, self._top = self._top, self._top + 1
        else:
            raise AnonfsError(self._full, "no room for another record")
        self.live += 1
        return row

    @property
    def free(self) -> int:
        """How many rows can be allocated."""
        return self.rows - 1 - self.live

    def release(self, row: int) -> None:
        """Clear a row, word 0 first: what is half cleared is already dead."""
        base = row * self.width
        self.words[base] = 0
        self.view[base * 8 : (base + self.width) * 8] = bytes(self.width * 8)
        self._free.append(row)
        self.live -= 1

    def live_rows(self) -> list[int]:
        """The live rows, ascending, by a walk."""
        first_words = self._file.words[: self._top * self.width : self.width]
        rows: list[int] = np.flatnonzero(first_words).tolist()
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close()
