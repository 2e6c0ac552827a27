"""Sparse memory files that the image lives in.

A memfd is mapped once at its largest size and never again: address space costs nothing and memory
is allocated page by page as it is touched, so nothing ever moves and a row number is an address.
Another process that is handed the descriptors sees the same bytes.
"""

import ctypes
import mmap
import os
from collections import deque

import numpy as np
import numpy.typing as npt

from anonfs.errors import AnonfsError

__all__ = ["MemoryFile", "RecordTable"]

_MADV_POPULATE_WRITE = 23  # linux/mman.h, since 5.14; not in the mmap module
_libc = ctypes.CDLL(None, use_errno=True)


class MemoryFile:
    """A memfd of ``size`` bytes, mapped shared; ``name`` shows in /proc/PID/fd."""

    def __init__(self, name: str, size: int) -> None:
        self.fd = os.memfd_create(f"anonfs-{name}", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.size = size
        self.map = mmap.mmap(self.fd, size, flags=mmap.MAP_SHARED)
        self.view = memoryview(self.map)
        self.words: npt.NDArray[np.int64] = np.frombuffer(self.map, np.int64)

    def populate(self, offset: int, length: int) -> None:
        """Have the kernel allocate this range now (bytes, page-aligned); any thread.

        Raises OSError: memory ran out, or the kernel is older than 5.14.
        """
        address = self.words.ctypes.data + offset
        # Through ctypes since mmap.madvise() keeps the GIL, for seconds at a time here.
        result = _libc.madvise(
            ctypes.c_void_p(address), ctypes.c_size_t(length), _MADV_POPULATE_WRITE
        )
        if result != 0:
            raise AnonfsError(ctypes.get_errno(), "populating memory")

    def close(self) -> None:
        """Close the descriptor; the mapping goes with the last view of it."""
        os.close(self.fd)


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
