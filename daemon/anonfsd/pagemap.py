"""Loaded PTEs: what the kernel's page tables of an area say, by /proc/PID/pagemap.

PAGEMAP_SCAN (Linux 6.7) walks only the page tables that exist, so a sparse terabyte costs nothing;
before it, every page of the area has an entry of 64 bits to be read, of which bit 63 says present.
Like all of /proc it blocks: call `loaded_ptes` in a thread.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

import numpy as np

from anonfs.units import PAGE_SHIFT

__all__ = ["loaded_ptes", "scan"]

_PAGEMAP_SCAN = 0xC0606610  # linux/fs.h: _IOWR('f', 16, struct pm_scan_arg)
_PAGE_IS_PRESENT = 1 << 3

# struct pm_scan_arg: size, flags, start, end, walk_end, vec, vec_len, max_pages, and the masks of
# categories: inverted, all of, any of, to return.
_ARGUMENT = struct.Struct("=12Q")

_WALK_END = 4
_REGION_WORDS = 3  # struct page_region: start, end, categories
_REGIONS = 4096
_READ = 1 << 20
_ENTRY = 8
_PRESENT_BIT = np.uint64(63)
_NO_SUCH_CALL = {errno.ENOTTY, errno.EINVAL}


def loaded_ptes(areas: list[tuple[int, int, int]]) -> int:
    """How many PTEs are loaded in ``areas``, each (pid, start, end) in addresses.

    Processes that are gone, or that may not be looked at, count nothing.
    """
    return sum(_of_area(pid, start, end) for pid, start, end in areas)


def _of_area(pid: int, start: int, end: int) -> int:
    try:
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
            try:
                return scan(pagemap.fileno(), start, end)
            except OSError as error:
                if error.errno not in _NO_SUCH_CALL:
                    raise
            return _read(pagemap.fileno(), start, end)
    except OSError:
        return 0


def scan(pagemap: int, start: int, end: int) -> int:
    """How many PTEs are loaded from ``start`` to ``end``, by PAGEMAP_SCAN. Raises OSError."""
    regions = np.zeros(_REGIONS * _REGION_WORDS, np.uint64)
    pages = 0
    while start < end:
        argument = bytearray(
            _ARGUMENT.pack(
                *(_ARGUMENT.size, 0, start, end, 0, regions.ctypes.data, _REGIONS, 0),
                *(0, _PAGE_IS_PRESENT, 0, _PAGE_IS_PRESENT),
            )
        )
        found = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument)
        spans = regions[: found * _REGION_WORDS]
        pages += int((spans[1::_REGION_WORDS] - spans[::_REGION_WORDS]).sum()) >> PAGE_SHIFT
        if found < _REGIONS:
            break  # Nothing was left out; walk_end can lie before regions that were returned.
        start = max(_ARGUMENT.unpack(argument)[_WALK_END], int(spans[-2]))
    return pages


def _read(pagemap: int, start: int, end: int) -> int:
    at, left = (start >> PAGE_SHIFT) * _ENTRY, ((end - start) >> PAGE_SHIFT) * _ENTRY
    pages = 0
    while left:
        entries = np.frombuffer(os.pread(pagemap, min(_READ, left), at), np.uint64)
        if not entries.size:
            break
        pages += int(np.count_nonzero(entries >> _PRESENT_BIT))
        at, left = at + entries.nbytes, left - entries.nbytes
    return pages
