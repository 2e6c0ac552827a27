"""A mapped file that knows what it maps.

The object is a plain ``mmap.mmap``: slices, ``flush``, ``memoryview`` and numpy work on it as on
any other. It adds a descriptor of its own, so that it can be inspected whether or not the file
still has a name. Both the memory and the descriptor are inherited across fork; each process
closes its own.
"""

import mmap
import os
import weakref
from typing import Self

from anonfs.client._attach import attach
from anonfs.client._descriptor import close_descriptor
from anonfs.client._inspect import Inspection, inspect, swap_out

__all__ = ["Mapping"]


class Mapping(mmap.mmap):
    """Shared memory (MAP_SHARED) of an anonymous inode.

    Attributes:
        name: the file's name when it was mapped, relative to the mount; None when it never had
            one that lasted.
        offset: the byte of the file that byte 0 of the mapping is.
        attached: whether the kernel reports forks and unmaps to the daemon.

    ``close`` raises ``BufferError`` while a memoryview or an array still uses the memory, and
    changes nothing then.
    """

    name: str | None
    offset: int
    attached: bool
    _descriptor: int
    _close_descriptor: "weakref.finalize[[int], Self]"

    def __new__(
        cls,
        fileno: int,
        length: int,
        *,
        name: str | None = None,
        offset: int = 0,
        read_only: bool = False,
    ) -> Self:
        """Map ``length`` bytes of the file behind ``fileno``, which stays the caller's."""
        prot = mmap.PROT_READ if read_only else mmap.PROT_READ | mmap.PROT_WRITE
        self = super().__new__(cls, fileno, length, flags=mmap.MAP_SHARED, prot=prot, offset=offset)
        self.name = name
        self.offset = offset
        self.attached = False
        self._descriptor = os.dup(fileno)  # the one inside mmap.mmap cannot be reached
        self._close_descriptor = weakref.finalize(self, close_descriptor, self._descriptor)
        self._close_descriptor.atexit = False
        return self

    def fileno(self) -> int:
        """The descriptor of the mapped file, valid until `close`.

        Raises:
            ValueError: the mapping is closed.
        """
        if not self._close_descriptor.alive:
            raise ValueError("mapping is closed")
        return self._descriptor

    def resize(self, newsize: int) -> None:
        """Grow or shrink the mapping and the file, as `mmap.mmap.resize`."""
        super().resize(newsize)
        if self.attached:
            attach(self.fileno())  # no event tells that an area has grown

    def inspect(self) -> Inspection:
        """The state of the inode, see `anonfs.client.inspect`."""
        return inspect(self.fileno())

    def swap_out(self, first: int | None = None, last: int | None = None) -> None:
        """Write pages of the inode to swap, see `anonfs.client.swap_out`; pages of the file."""
        swap_out(self.fileno(), first, last)

    def close(self) -> None:
        """Unmap the memory and close the descriptor; closing again does nothing."""
        super().close()
        self._close_descriptor()

    def __exit__(
        self,
        kind: object = None,
        error: object = None,
        trace: object = None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        what = "nameless" if self.name is None else repr(self.name)
        state = f"{len(self)} bytes at {self.offset}" if self._close_descriptor.alive else "closed"
        return f"<{type(self).__name__} {what}, {state}>"
