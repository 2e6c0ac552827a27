"""Files of the mount that the daemon opens itself, by inode number, to have pages written or read.

Not by a name: looking one up waits for the lock of its directory, whose owner may be waiting for
the lock of the very inode that is held until we are done. open_by_handle_at(2) does without, with
a handle as the kernel makes it for FUSE; only root may.

They are opened in a detached copy of the mount (open_tree(2)), or the daemon itself would keep its
mount busy. Even so they keep the file system alive, and an inode that nobody else has: a file is
kept open for a moment at the most, because reclaim mostly comes back for more.

Opening and closing need answers from the event loop: threads only. The loop itself may call
`OwnFiles.forget` alone, which therefore takes no lock.
"""

import ctypes
import errno
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from anonfs.client import Mount
from anonfs.errors import AnonfsError
from anonfsd._tuning import Tuning

__all__ = ["OwnFiles"]

_FILEID_INO64_GEN = 0x81  # linux/exportfs.h: 64 bits of inode number, 32 of generation
_SYS_OPEN_TREE = 428  # on every architecture
_OPEN_TREE_CLONE = 1
_AT_FDCWD = -100
_KEPT = 8

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class _OwnFile:
    fd: int
    users: int = 1
    used: float = 0.0


class OwnFiles:
    """Files of ``mounted``; `close_idle` is to be called now and then."""

    def __init__(self, mounted: Mount, tuning: Tuning) -> None:
        self._mounted = mounted
        self._tuning = tuning
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._root = -1
        self._users = 0
        self._files: dict[int, _OwnFile] = {}
        self._unwanted: set[int] = set()

    @contextmanager
    def open(self, ino: int) -> Iterator[int]:
        """A descriptor of inode ``ino``, which other threads may be using as well.

        Raises:
            PermissionError: only root may open an inode by its number.
            OSError: ESTALE, the kernel's caches do not hold it.
        """
        with self._lock:
            self._users += 1
        file = None
        try:
            with self._opening:
                file = self._taken(ino) or self._opened(ino)
            yield file.fd
        finally:
            self._put_back(ino, file)

    def _taken(self, ino: int) -> _OwnFile | None:
        with self._lock:
            file = self._files.get(ino)
            if file is not None:
                file.users += 1
            return file

    def _opened(self, ino: int) -> _OwnFile:
        if self._root < 0:
            self._root = _open_detached(self._mounted)
        with self._tuning.reading_ahead_much():
            file = _OwnFile(_open_by_number(self._root, ino))
        with self._lock:
            self._files[ino] = file
        return file

    def _put_back(self, ino: int, file: _OwnFile | None) -> None:
        with self._lock:
            self._users -= 1
            if file is None:
                return
            file.users -= 1
            file.used = time.monotonic()
            unwanted = len(self._files) > _KEPT or ino in self._unwanted
            if file.users or not unwanted:
                return
            del self._files[ino]
        os.close(file.fd)

    @property
    def any_open(self) -> bool:
        """Whether there is something to close."""
        return self._root >= 0

    def forget(self, ino: int) -> bool:
        """``ino`` is not to be kept open any more; returns whether there is anything to close."""
        if not self._users and ino not in self._files:
            return False
        self._unwanted.add(ino)
        return True

    def close_idle(self, seconds: float) -> None:
        """Close what was not used for so long, and what was to be forgotten."""
        now = time.monotonic()
        unwanted, self._unwanted = self._unwanted, set()
        with self._lock:
            old = [
                ino
                for ino, file in self._files.items()
                if not file.users and (now - file.used >= seconds or ino in unwanted)
            ]
            closed = [self._files.pop(ino).fd for ino in old]
            if not self._files and not self._users and self._root >= 0:
                closed.append(self._root)
                self._root = -1
        for fd in closed:
            os.close(fd)


def _open_detached(mounted: Mount) -> int:
    """The root of the mount, in a copy of it that is attached nowhere; root's own without one."""
    path = os.fsencode(mounted.point)
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, path, flags)
    options = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        root = os.open(".", options, dir_fd=tree) if tree >= 0 else os.open(path, options)
    finally:
        if tree >= 0:
            os.close(tree)
    try:
        if os.fstat(root).st_dev != os.makedev(*mounted.device):
            raise AnonfsError(errno.ESTALE, "something else is mounted there")
    except OSError:
        os.close(root)
        raise
    return root


def _open_by_number(root: int, ino: int) -> int:
    handle = struct.pack("=IiIII", 12, _FILEID_INO64_GEN, ino >> 32, ino & 0xFFFFFFFF, 0)
    fd: int = _libc.open_by_handle_at(root, handle, os.O_RDONLY | os.O_CLOEXEC)
    if fd < 0:
        raise AnonfsError(ctypes.get_errno())
    return fd
