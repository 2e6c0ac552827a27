"""What a mount costs in memory, as the kernel counts it: nothing here asks the daemon.

frames      the memory of the daemon's memfd of frames, mapped or not
cached      the pages of a file in the page cache, see cachestat(2) and linux/mman.h
"""

import contextlib
import ctypes
import errno
import os
import re
from pathlib import Path

from anonfs.units import PAGE_SIZE

__all__ = ["Cost", "cached_bytes", "has_cachestat", "resident_frames"]

_SYS_CACHESTAT = 451  # on every architecture
_FRAMES = "memfd:anonfs-frames"
_RSS = re.compile(rf"{_FRAMES}.*?^Rss:\s*(\d+) kB", re.DOTALL | re.MULTILINE)
_libc = ctypes.CDLL(None, use_errno=True)


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _CacheStat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in ("cache", "dirty", "writeback", "evicted", "recently_evicted")
    )


def cached_bytes(fd: int) -> int:
    """How much of a file the page cache holds. Raises OSError."""
    everything, found = _Range(0, 0), _CacheStat()
    arguments = fd, ctypes.byref(everything), ctypes.byref(found), 0
    if _libc.syscall(_SYS_CACHESTAT, *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(found.cache) * PAGE_SIZE


def has_cachestat(path: Path) -> bool:
    """Whether this kernel counts cached pages."""
    with path.open("rb") as file:
        try:
            cached_bytes(file.fileno())
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            return False
    return True


def resident_frames(pid: int) -> int:
    """The bytes of frames in the page tables of the daemon ``pid``."""
    found = _RSS.search(Path(f"/proc/{pid}/smaps").read_text(encoding="ascii"))
    assert found is not None, "no mapping of frames"
    return int(found[1]) << 10


class Cost:
    """Samples of what the daemon ``pid`` and the files ``descriptors`` cost together."""

    def __init__(self, pid: int, descriptors: list[int]) -> None:
        self.samples: list[int] = []
        self._frames = _frames_of(pid)
        self._descriptors = descriptors

    def frames(self) -> int:
        """The bytes of the frames that have memory."""
        return self._frames.stat().st_blocks * 512

    def cached(self) -> int:
        """The bytes of the files that are in the page cache."""
        return sum(map(cached_bytes, self._descriptors))

    def sample(self) -> None:
        """Look once more."""
        self.samples.append(self.frames() + self.cached())


def _frames_of(pid: int) -> Path:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if _FRAMES in str(entry.readlink()):
                return entry
    raise AssertionError("no memfd of frames")
