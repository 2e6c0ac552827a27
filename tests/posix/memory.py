"""mmap, munmap, mremap and msync as the kernel has them.

Python's own ``mmap`` keeps a duplicate of the descriptor, cannot unmap a part and turns every
address into an object that must be closed first.
"""

import ctypes
import mmap
import os

__all__ = ["READ", "Mapping", "map_nothing_over", "remap", "room_for", "unmap"]

READ = mmap.PROT_READ
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_MS_SYNC = 4
_MAP_FIXED = 0x10
_MAYMOVE, _FIXED = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_size, _pointer = ctypes.c_size_t, ctypes.c_void_p
_libc.mmap.restype = _pointer
_libc.mmap.argtypes = [_pointer, _size, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_libc.munmap.argtypes = [_pointer, _size]
_libc.mremap.restype = _pointer
_libc.mremap.argtypes = [_pointer, _size, _size, ctypes.c_int, _pointer]
_libc.msync.argtypes = [_pointer, _size, ctypes.c_int]
_libc.madvise.argtypes = [_pointer, _size, ctypes.c_int]


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _found(address: int | None) -> int:
    """An address that the kernel gave. Raises OSError: it gave none."""
    if address in {None, _pointer(-1).value}:
        _check(-1)
    assert address is not None
    return address


class Mapping:
    """``length`` bytes of file ``fd`` from ``offset``, mapped until `unmap` or the process's end.

    Access to what is not there kills the process, as it would any program.
    """

    def __init__(
        self,
        fd: int,
        length: int,
        offset: int = 0,
        *,
        flags: int = mmap.MAP_SHARED,
        protection: int = _READ_WRITE,
    ) -> None:
        self.address = _found(_libc.mmap(None, length, protection, flags, fd, offset))
        self.length = length

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes at ``offset`` of the mapping."""
        return ctypes.string_at(self.address + offset, count)

    def write(self, offset: int, data: bytes) -> None:
        """Store ``data`` at ``offset`` of the mapping."""
        ctypes.memmove(self.address + offset, data, len(data))

    def sync(self) -> None:
        """msync(MS_SYNC) of all of it."""
        _check(_libc.msync(self.address, self.length, _MS_SYNC))

    def advise(self, advice: int) -> None:
        """madvise of all of it."""
        _check(_libc.madvise(self.address, self.length, advice))

    def unmap(self, offset: int = 0, length: int | None = None) -> None:
        """munmap of a part, by default of all."""
        unmap(self.address + offset, self.length if length is None else length)


def unmap(address: int, length: int) -> None:
    """munmap."""
    _check(_libc.munmap(address, length))


def remap(address: int, length: int, new_length: int, to: int | None = None) -> int:
    """mremap to where there is room, or to address ``to``; where it is now."""
    flags = _MAYMOVE if to is None else _MAYMOVE | _FIXED
    return _found(_libc.mremap(address, length, new_length, flags, to))


def room_for(length: int) -> int:
    """Addresses that nothing else uses, private memory of no file: for `remap` to go over."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return _found(_libc.mmap(None, length, _READ_WRITE, flags, -1, 0))


def map_nothing_over(address: int, length: int) -> None:
    """Map private memory of no file in the place of whatever is there."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    _found(_libc.mmap(address, length, _READ_WRITE, flags, -1, 0))
