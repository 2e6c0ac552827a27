"""An open file of an anonfs: the step between a name and a mapping."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from anonfs.client._attach import attach as attach_mappings
from anonfs.client._descriptor import close_descriptor
from anonfs.client._errors import ClientError, explained
from anonfs.client._inspect import (
    Inspection,
    inspect,
    lock,
    reap,
    reap_policy,
    swap_out,
    unlock,
)
from anonfs.client._mapping import Mapping

__all__ = ["File"]

_SIZE_BYTE = 1 << 62
"""The byte that stands for the size in locks, far past any file: no program's own meet it."""


class File:
    """An open file; a context manager that closes its descriptor.

    Mappings made from it stay valid after it is closed.
    """

    def __init__(self, descriptor: int, path: Path, name: str | None, *, read_only: bool) -> None:
        self._descriptor = descriptor
        self.path = path
        self.name = name
        self.read_only = read_only

    def fileno(self) -> int:
        """The open descriptor, valid until `close`.

        Raises:
            ValueError: the file is closed.
        """
        if self._descriptor < 0:
            raise ValueError("file is closed")
        return self._descriptor

    @property
    def size(self) -> int:
        """The size in bytes."""
        return os.fstat(self.fileno()).st_size

    def resize(self, size: int) -> None:
        """Make the file ``size`` bytes long; what lies beyond is given back at once.

        A process that touches a mapped page beyond the new end gets SIGBUS.

        Raises:
            OSError: ENOSPC when that much cannot be promised, EFBIG beyond the largest size.
        """
        with explained(self.path):
            os.ftruncate(self.fileno(), size)

    def grow(self, size: int) -> None:
        """Make the file at least ``size`` bytes long.

        Any number of processes may grow one file at a time: none of them makes it shorter.
        """
        if self.size >= size:
            return
        with self.size_locked():
            if self.size < size:
                self.resize(size)

    @contextmanager
    def size_locked(self) -> Iterator[None]:
        """Keep others who do the same out until the end of the block; not to be nested.

        It is a lock of the open file (F_OFD_SETLKW): a process's own (F_SETLK) would be dropped by
        any close of any descriptor of the inode. What a fork shares the open file with it lets in.
        """

        def lock(kind: int) -> None:
            flock = struct.pack("hhqqi4x", kind, os.SEEK_SET, _SIZE_BYTE, 1, 0)
            with explained(self.path):
                fcntl.fcntl(self.fileno(), fcntl.F_OFD_SETLKW, flock)

        lock(fcntl.F_WRLCK)
        try:
            yield
        finally:
            lock(fcntl.F_UNLCK)

    def map(self, size: int | None = None, *, offset: int = 0, attach: bool = True) -> Mapping:
        """Map ``size`` bytes from ``offset``, a multiple of the page size; by default to the end.

        A file that is too short is grown first, unless it is open for reading only. With
        ``attach`` the kernel is to report forks and unmaps to the daemon, where that can be had.

        Raises:
            ClientError: there is nothing to map, or a file open for reading is too short.
            OSError: as mmap(2) and ftruncate(2).
        """
        end = self.size if size is None else offset + size
        if end <= offset or offset < 0:
            hint = "is empty: give a size" if size is None else f"cannot be mapped for {size} bytes"
            raise ClientError(f"{self.path} {hint}")
        if not self.read_only:
            self.grow(end)
        elif self.size < end:
            raise ClientError(f"{self.path} has {self.size} bytes, not {end}")
        with explained(self.path):
            mapping = Mapping(
                self.fileno(),
                end - offset,
                name=self.name,
                offset=offset,
                read_only=self.read_only,
            )
        if attach:
            mapping.attached = attach_mappings(self.fileno())
        return mapping

    def inspect(self) -> Inspection:
        """The state of the inode, see `anonfs.client.inspect`."""
        return inspect(self.fileno())

    @property
    def reap(self) -> str:
        """When the file goes by itself, see `anonfs.client.reap`, which setting it calls."""
        return reap_policy(self.fileno()).render()

    @reap.setter
    def reap(self, policy: str) -> None:
        reap(self.fileno(), policy)

    def lock(self) -> None:
        """Keep all pages in core, see `anonfs.client.lock`."""
        lock(self.fileno())

    def unlock(self) -> None:
        """End `lock`."""
        unlock(self.fileno())

    def swap_out(self, first: int | None = None, last: int | None = None) -> None:
        """Write pages to swap, see `anonfs.client.swap_out`."""
        swap_out(self.fileno(), first, last)

    def close(self) -> None:
        """Close the descriptor; closing again does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            close_descriptor(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._descriptor < 0 else f"descriptor {self._descriptor}"
        return f"<{type(self).__name__} {str(self.path)!r}, {state}>"
