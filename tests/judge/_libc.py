"""mmap as the kernel has it.

Python's own ``mmap`` duplicates the descriptor, so closing it would never leave a file held by
its mapping alone, and it refuses to map past end-of-file.
"""

import ctypes
import mmap
import os

__all__ = ["PAGE", "RawMapping", "die_with_parent"]

PAGE = mmap.PAGESIZE
_MS_SYNC = 4
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
for _name in ("munmap", "msync", "madvise"):
    getattr(_libc, _name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MAP_FAILED = ctypes.c_void_p(-1).value


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when process ``parent``, which started it, ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class RawMapping:
    """``length`` bytes of a file from ``offset``, MAP_SHARED, readable and writable."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        address = _libc.mmap(None, length, protection, mmap.MAP_SHARED, fd, offset)
        if address == _MAP_FAILED:
            _check(-1)
        self._address = address
        self._length = length

    def read(self, offset: int, length: int) -> bytes:
        """A copy of ``length`` bytes at ``offset`` of the mapping."""
        self._bound(offset, length)
        return ctypes.string_at(self._address + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Store ``data`` at ``offset`` of the mapping."""
        self._bound(offset, len(data))
        ctypes.memmove(self._address + offset, data, len(data))

    def sync(self) -> None:
        """msync of the whole mapping, MS_SYNC."""
        _check(_libc.msync(self._address, self._length, _MS_SYNC))

    def forget_ptes(self) -> None:
        """madvise(MADV_DONTNEED): this process's PTEs go, the file's pages stay."""
        _check(_libc.madvise(self._address, self._length, mmap.MADV_DONTNEED))

    def unmap(self) -> None:
        """munmap of the whole mapping."""
        _check(_libc.munmap(self._address, self._length))

    def _bound(self, offset: int, length: int) -> None:
        if offset < 0 or offset + length > self._length:
            raise IndexError(f"{length} bytes at {offset} of a mapping of {self._length}")
