"""Addresses: mapping where one says, and the room that is kept for children.

A child that is to have its own copy of private memory gets nothing at first where the memory of its
parent lies. Until its copy is mapped there, those addresses are free, and what the child allocates
meanwhile might be put there. The kernel takes the highest gap that is large enough. So above all
private memory there is a *room*, which no child inherits either, and what is allocated so early
goes there::

    parent    ─────┤ private ├──┤ room ├──┤ libraries, stack
    child     ─────┤         ├──┤    ▓▓├──┤ libraries, stack        ▓ an early malloc
              ─────┤  copy   ├──┤room▓▓├──┤ libraries, stack        as the program sees it
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Room", "address_of", "dont_fork", "map_file", "reserve", "unmap"]

_MAP_ANONYMOUS, _MAP_NORESERVE, _MAP_FIXED_NOREPLACE, _MAP_FIXED = 0x20, 0x4000, 0x100000, 0x10
_PROT_NONE = 0
_DONTFORK = 10
_SIMPLE = 0  # PyBUF_SIMPLE: bytes, read only will do
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class _Buffer(ctypes.Structure):
    """Py_buffer of the stable ABI."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of(mapping: mmap.mmap) -> int:
    """The address of the first byte of ``mapping``, whether it can be written to or not.

    Python does not tell it: the buffer protocol does, to who asks in C.
    """
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(
        ctypes.py_object(mapping), ctypes.byref(buffer), ctypes.c_int(_SIMPLE)
    )
    address = int(buffer.buf or 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address


def map_file(
    descriptor: int, address: int, size: int, *, over: bool = False, read_only: bool = False
) -> None:
    """Map a file from its beginning, shared; ``over`` what is there, which must be free otherwise.

    Raises OSError: as mmap(2); EEXIST, it is not free.
    """
    where = _MAP_FIXED if over else _MAP_FIXED_NOREPLACE
    prot = mmap.PROT_READ if read_only else mmap.PROT_READ | mmap.PROT_WRITE
    _map(address, size, prot, mmap.MAP_SHARED | where, descriptor)


def reserve(address: int, size: int) -> None:
    """Have SIGSEGV at addresses that are free now. Raises OSError: as mmap(2); EEXIST."""
    flags = mmap.MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    _map(address, size, _PROT_NONE, flags | _MAP_FIXED_NOREPLACE, -1)


def dont_fork(address: int, size: int) -> None:
    """Have forks leave out what is mapped there. Raises OSError: as madvise(2)."""
    if _libc.madvise(address, size, _DONTFORK) < 0:
        raise _error()


def unmap(address: int, size: int) -> None:
    """Unmap what is there."""
    _libc.munmap(address, size)


class Room:
    """The room of this process; the addresses below it are for private memory."""

    LARGEST = 16 << 20
    """Bytes; CPython and malloc take 1 MiB at a time, or what is asked for at once."""

    _SMALLEST = 1 << 20

    def __init__(self) -> None:
        self._address = 0
        self._size = 0

    @contextmanager
    def beneath(self, size: int) -> Iterator[None]:
        """While this holds the kernel chooses addresses beneath the room for ``size`` bytes."""
        if not self._address:
            self._take(_somewhere(self.LARGEST), self.LARGEST)
        fillers: list[int] = []
        try:
            while (found := _somewhere(size)) > self._address:
                fillers.append(found)
            unmap(found, size)
            yield
        finally:
            for filler in fillers:
                unmap(filler, size)

    def keep_in_child(self) -> None:
        """In a child: keep what it did not need of the room of its parent, for its own children."""
        address, size = self._address, self._size
        self._address = 0
        while address and size >= self._SMALLEST:
            try:
                reserve(address, size)
            except OSError:
                size //= 2  # what was allocated is at its upper end
            else:
                self._take(address, size)
                return

    def _take(self, address: int, size: int) -> None:
        dont_fork(address, size)
        self._address, self._size = address, size


def _somewhere(size: int) -> int:
    flags = mmap.MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE
    return _map(None, size, _PROT_NONE, flags, -1)


def _map(address: int | None, size: int, prot: int, flags: int, descriptor: int) -> int:
    found = _libc.mmap(address, size, prot, flags, descriptor, 0)
    if found == _FAILED:
        raise _error()
    # Before Linux 4.17 the address is no more than a hint.
    if address is not None and found != address:
        unmap(found, size)
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    return int(found or 0)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
