"""System calls that Python has no name for.

Mounts and swap are switched by this process itself, not by a program that it runs: so when it is
killed, they are either done or not begun, and scripts/bench sees which.
"""

import ctypes
import mmap
import os
from dataclasses import dataclass

__all__ = [
    "CacheState",
    "cachestat",
    "die_with_parent",
    "map_first_page",
    "mount",
    "swapoff",
    "swapon",
    "unmount",
]

_CACHESTAT = 451  # on every architecture; since Linux 6.5
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_SWAP_FLAG_PREFER, _HIGHEST_PRIORITY = 0x8000, 0x7FFF

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_MAP_FAILED, _OFFSET = ctypes.c_void_p(-1).value, ctypes.c_long(0)


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def map_first_page(fd: int) -> None:
    """Map the first page of a file, shared, until the process ends.

    Unlike `mmap.mmap` it takes no descriptor of its own, which a child would have to close.
    """
    protection, page = mmap.PROT_READ | mmap.PROT_WRITE, mmap.PAGESIZE
    address = _libc.mmap(None, ctypes.c_size_t(page), protection, mmap.MAP_SHARED, fd, _OFFSET)
    _checked(0 if address != _MAP_FAILED else -1, "mmap")


def mount(kind: str, source: str, point: str, data: str) -> None:
    """Mount a file system of that kind."""
    names = (source.encode(), os.fsencode(point), kind.encode())
    _checked(_libc.mount(*names, ctypes.c_ulong(0), data.encode()), point)


def unmount(point: str) -> None:
    """Take a mount from the tree now; it is gone when its last user is."""
    _checked(_libc.umount2(os.fsencode(point), _MNT_DETACH), point)


def swapon(path: str) -> None:
    """Swap there, before any swap that the machine has."""
    _checked(_libc.swapon(os.fsencode(path), _SWAP_FLAG_PREFER | _HIGHEST_PRIORITY), path)


def swapoff(path: str) -> None:
    """Swap there no more; waits until every page in it was read back."""
    _checked(_libc.swapoff(os.fsencode(path)), path)


def die_with_parent(number: int) -> None:
    """Get this signal when the parent, which must be alive, ends."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number), "prctl")


@dataclass(frozen=True)
class CacheState:
    """What the page cache holds of a file, in pages."""

    cached: int
    dirty: int
    in_writeback: int


def cachestat(fd: int) -> CacheState:
    """The state of a whole file. Raises OSError: Linux is older than 6.5."""
    whole = (ctypes.c_uint64 * 2)(0, 0)
    counts = (ctypes.c_uint64 * 5)()
    number, flags = ctypes.c_long(_CACHESTAT), ctypes.c_uint(0)
    _checked(
        _libc.syscall(number, fd, ctypes.byref(whole), ctypes.byref(counts), flags), "cachestat"
    )
    return CacheState(counts[0], counts[1], counts[2])
