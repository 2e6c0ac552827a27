"""One process's hands: the system calls of the judge, on files of one directory.

The caller numbers descriptors and mappings, so a sequence replays with the same numbers.
"""

import errno
import os
import shutil
from pathlib import Path
from typing import TypeAlias

from tests.judge._libc import PAGE, RawMapping

__all__ = ["SWAPOUT", "Actor", "Reply"]

SWAPOUT = "user.anonfs.swapout"
"""Written to send pages to swap: ``all``, or ``FIRST-LAST``, page indexes with both ends in."""

Reply: TypeAlias = bytes | int | bool | tuple[int, int] | list[str] | None
"""What an operation may answer."""

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENODATA, errno.EPERM}
_DROP_PAGECACHE = "1"


class Actor:
    """Descriptors and mappings of the files of ``directory``."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._fds: dict[int, int] = {}
        self._maps: dict[int, RawMapping] = {}

    def _at(self, name: str) -> Path:
        return self._directory / name

    def make_directory(self) -> None:
        """Create the directory, empty."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)

    def remove_directory(self) -> None:
        """Remove the directory and every file in it."""
        shutil.rmtree(self._directory)

    def list_directory(self) -> list[str]:
        """Its names, sorted."""
        return sorted(path.name for path in self._directory.iterdir())

    def open(self, handle: int, name: str, flags: int) -> None:
        """Open ``name`` as ``handle``."""
        self._fds[handle] = os.open(self._at(name), flags, 0o600)

    def close(self, handle: int) -> None:
        """Close ``handle``."""
        os.close(self._fds.pop(handle))

    def pread(self, handle: int, offset: int, length: int) -> bytes:
        """What one pread answers."""
        return os.pread(self._fds[handle], length, offset)

    def pwrite(self, handle: int, offset: int, data: bytes) -> int:
        """What one pwrite answers."""
        return os.pwrite(self._fds[handle], data, offset)

    def append(self, handle: int, data: bytes) -> int:
        """What one write on an O_APPEND descriptor answers."""
        return os.write(self._fds[handle], data)

    def ftruncate(self, handle: int, size: int) -> None:
        """Set the size through a descriptor."""
        os.ftruncate(self._fds[handle], size)

    def truncate(self, name: str, size: int) -> None:
        """Set the size through a name."""
        os.truncate(self._at(name), size)

    def unlink(self, name: str) -> None:
        """Remove a name."""
        self._at(name).unlink()

    def rename(self, name: str, target: str) -> None:
        """Rename, over ``target`` where there is one."""
        self._at(name).rename(self._at(target))

    def link(self, name: str, target: str) -> None:
        """Give a file a second name."""
        os.link(self._at(name), self._at(target))

    def map(self, mapping: int, handle: int, offset: int, length: int) -> None:
        """Map a range of the file open as ``handle``."""
        self._maps[mapping] = RawMapping(self._fds[handle], offset, length)

    def unmap(self, mapping: int) -> None:
        """Remove a mapping."""
        self._maps.pop(mapping).unmap()

    def peek(self, mapping: int, offset: int, length: int) -> bytes:
        """Load bytes of a mapping."""
        return self._maps[mapping].read(offset, length)

    def poke(self, mapping: int, offset: int, data: bytes) -> None:
        """Store bytes into a mapping."""
        self._maps[mapping].write(offset, data)

    def poke_in_child(self, mapping: int, offset: int, data: bytes) -> int:
        """Store bytes into a mapping from a forked child, which then exits; its status."""
        child = os.fork()
        if child == 0:
            try:
                self._maps[mapping].write(offset, data)
            finally:
                os._exit(0)
        return os.waitpid(child, 0)[1]

    def msync(self, mapping: int) -> None:
        """msync a mapping."""
        self._maps[mapping].sync()

    def forget_ptes(self, mapping: int) -> None:
        """Clear a mapping's PTEs in this process."""
        self._maps[mapping].forget_ptes()

    def fsync(self, handle: int) -> None:
        """Fsync a descriptor."""
        os.fsync(self._fds[handle])

    def drop_pages(self, handle: int) -> None:
        """Write back, and have the page cache drop what no PTE holds."""
        os.fsync(self._fds[handle])
        os.posix_fadvise(self._fds[handle], 0, 0, os.POSIX_FADV_DONTNEED)

    def start_write_back(self, handle: int) -> None:
        """Have the kernel begin to write back, and do not wait for it."""
        os.posix_fadvise(self._fds[handle], 0, 0, os.POSIX_FADV_DONTNEED)

    def swap_out(self, handle: int, pages: str) -> bool:
        """Send pages to swap through a descriptor; False where the file system cannot."""
        return _swap_out(self._fds[handle], pages)

    def swap_out_named(self, name: str, pages: str) -> bool:
        """Send pages to swap by name; False where the file system cannot."""
        return _swap_out(self._at(name), pages)

    def drop_caches(self) -> None:
        """Have the machine drop clean page cache, where this process may ask for it."""
        if os.geteuid() == 0:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text(_DROP_PAGECACHE, encoding="ascii")

    def status(self, handle: int) -> tuple[int, int]:
        """Size and link count, by fstat."""
        found = os.fstat(self._fds[handle])
        return found.st_size, found.st_nlink

    def status_named(self, name: str) -> tuple[int, int]:
        """Size and link count, by stat."""
        found = self._at(name).stat()
        return found.st_size, found.st_nlink

    def read_named(self, name: str) -> bytes:
        """All that a fresh descriptor reads, page by page of 64."""
        fd = os.open(self._at(name), os.O_RDONLY)
        try:
            pieces = []
            while piece := os.read(fd, 64 * PAGE):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            os.close(fd)


def _swap_out(file: int | Path, pages: str) -> bool:
    try:
        os.setxattr(file, SWAPOUT, pages.encode())
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True
