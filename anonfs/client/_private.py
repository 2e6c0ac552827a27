"""Private memory: an ``mmap.mmap`` that is to a fork what MAP_PRIVATE | MAP_ANONYMOUS is.

Parent and child have the same bytes after a fork, and each its own from then on, to any depth. The
pages are those of an inode without a name, one for each process, shared copy-on-write by the
daemon; so they swap and can be looked at. What happens at a fork is in `anonfs.client._dup`.

The object is made of anonymous memory, and the inode is mapped over that: then ``mmap.mmap`` has no
descriptor of its own, which would keep the inode of the parent in the child.
"""

import errno
import mmap
import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Self

from anonfs.client._addresses import address_of, dont_fork, map_file, reserve
from anonfs.client._clone import clone_into
from anonfs.client._descriptor import close_descriptor
from anonfs.client._dup import dups
from anonfs.client._errors import ClientError
from anonfs.client._inspect import Inspection, inspect, make_private, swap_out
from anonfs.client._nameless import open_nameless
from anonfs.client._overlay import make_overlay
from anonfs.units import PAGE_SIZE, pages_for

__all__ = ["PrivateMemory"]

_NORESERVE = 0x4000
_DONTNEED, _FREE, _DONTFORK, _DOFORK, _WIPEONFORK, _KEEPONFORK = 4, 8, 10, 11, 18, 19
_FREEING = {_DONTNEED, _FREE}
_FORKING = {_DONTFORK, _DOFORK, _WIPEONFORK, _KEEPONFORK}


@dataclass(frozen=True, slots=True)
class _Inode:
    """The inode of the process ``owner``: its descriptor, and one of a directory of its mount."""

    owner: int
    directory: int
    descriptor: int

    def clear(self) -> None:
        """Free the pages: what is dirty would be written back before it is unmapped.

        Not by a child that has the descriptor because a fork bypassed Python.
        """
        if os.getpid() == self.owner:
            with suppress(OSError):
                os.ftruncate(self.descriptor, 0)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.directory)
        close_descriptor(self.descriptor)

    def drop(self) -> None:
        """Nobody has the memory any more."""
        self.clear()
        self.close()


class PrivateMemory(mmap.mmap):
    """Memory of this process alone, of which each forked child has a copy.

    A child whose copy could not be made, for want of space or of a daemon, has this object closed:
    using it is a ValueError, `fileno` and `inspect` raise the OSError that stood in the way, and
    through a memoryview or an array of it there is SIGSEGV.
    """

    _address: int
    _inode: _Inode
    _drop: "weakref.finalize[[], PrivateMemory]"
    _error: OSError | None

    def __new__(cls, directory: int, size: int) -> Self:
        """Map ``size`` bytes of zeros; ``directory`` is a descriptor of one of the mount.

        Raises:
            ClientError: ``size`` is not positive.
            OSError: ENOSPC, EDQUOT, that much cannot be promised.
        """
        if size <= 0:
            raise ClientError(f"{size} bytes cannot be mapped")

        def fill(descriptor: int) -> int:
            os.ftruncate(descriptor, _rounded(size))
            return size

        return cls._made(directory, fill)

    @classmethod
    def over(cls, directory: int, front: int) -> Self:
        """Map what the file shows that is open as ``front``, as MAP_PRIVATE would.

        Raises:
            ClientError: it is empty, or in the same mount.
            OSError: as `anonfs.client.overlay`.
        """

        def fill(descriptor: int) -> int:
            make_overlay(descriptor, front)
            size = os.fstat(descriptor).st_size
            if not size:
                raise ClientError("an empty file cannot be mapped")
            return size

        return cls._made(directory, fill)

    @classmethod
    def _made(cls, directory: int, fill: Callable[[int], int]) -> Self:
        """Map an inode that ``fill`` gives a size, which it returns."""
        with dups.lock:
            with ExitStack() as undo:
                kept = os.dup(directory)
                undo.callback(os.close, kept)
                descriptor = open_nameless(kept)
                undo.callback(close_descriptor, descriptor)
                make_private(descriptor)
                self = cls._mapped(descriptor, fill(descriptor))
                undo.pop_all()
            self._keep(_Inode(os.getpid(), kept, descriptor))
            dups.add(self)
            return self

    @classmethod
    def _mapped(cls, descriptor: int, size: int) -> Self:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        with dups.room.beneath(_rounded(size)):
            self = super().__new__(cls, -1, size, flags=flags)
        self._error = None
        self._address = address_of(self)
        map_file(descriptor, self._address, size, over=True)
        dont_fork(self._address, size)
        return self

    def _keep(self, inode: _Inode) -> None:
        self._inode = inode
        self._drop = weakref.finalize(self, inode.drop)
        self._drop.atexit = False

    def fileno(self) -> int:
        """The descriptor of the inode, valid until `close` or a fork.

        Raises:
            ValueError: the memory is closed.
            OSError: this is a child for which no copy could be made.
        """
        if self._error is not None:
            raise OSError(self._error.errno, f"no copy was made at the fork: {self._error}")
        if not self._drop.alive:
            raise ValueError("memory is closed")
        return self._inode.descriptor

    def inspect(self) -> Inspection:
        """The state of the inode, see `anonfs.client.inspect`."""
        return inspect(self.fileno())

    def swap_out(self, first: int | None = None, last: int | None = None) -> None:
        """Write pages of the inode to swap, see `anonfs.client.swap_out`."""
        swap_out(self.fileno(), first, last)

    def size(self) -> int:
        """The length, in bytes."""
        return len(self)

    def resize(self, newsize: int) -> None:
        """Have ``newsize`` bytes, those that are new zeros, perhaps at other addresses.

        Raises:
            BufferError: a memoryview or an array uses the memory.
            OSError: ENOSPC, EDQUOT, that much cannot be promised; nothing was changed.
        """
        if newsize <= 0:
            raise ClientError(f"{newsize} bytes cannot be mapped")
        with dups.lock:
            descriptor = self.fileno()
            super().resize(len(self))  # refuses where it is in use
            # The inode has all that is mapped of it, at every step.
            os.ftruncate(descriptor, _rounded(max(newsize, len(self))))
            try:
                with dups.room.beneath(_rounded(newsize)):
                    super().resize(newsize)
            finally:
                self._address = address_of(self)
                os.ftruncate(descriptor, _rounded(len(self)))

    def madvise(self, option: int, start: int = 0, length: int | None = None) -> None:
        """As `mmap.mmap.madvise`. MADV_DONTNEED and MADV_FREE free the pages, which are zeros then.

        Raises OSError: EINVAL, what a fork is to do with the memory cannot be changed.
        """
        if option in _FORKING:
            raise OSError(errno.EINVAL, "forks copy private memory")
        length = len(self) - start if length is None else length
        super().madvise(mmap.MADV_REMOVE if option in _FREEING else option, start, length)

    def close(self) -> None:
        """Free the memory; closing again does nothing.

        Raises BufferError: a memoryview or an array uses it; nothing was changed.
        """
        with dups.lock:
            if not self.closed:
                super().resize(len(self))  # refuses where it is in use
                self._inode.clear()
                super().close()
            if self._drop.detach():
                self._inode.close()

    def copy_for_child(self, *, quiet: bool) -> int:
        """A descriptor of a copy of the inode; ``quiet`` where nobody stores to it meanwhile.

        Raises OSError.
        """
        self._address = address_of(self)  # a signal handler may fork in the middle of `resize`
        copy = open_nameless(self._inode.directory)
        try:
            clone_into(self._inode.descriptor, copy, quiet=quiet)
        except BaseException:
            close_descriptor(copy)
            raise
        return copy

    def become(self, copy: int | OSError) -> None:
        """In a child, to which nothing is mapped: have the copy, or nothing for that reason."""
        size = len(self)
        try:
            if isinstance(copy, int):
                map_file(copy, self._address, size)
                dont_fork(self._address, size)
            else:
                reserve(self._address, size)
        except OSError as error:
            # Somebody else's memory is at our addresses, and arrays may point there.
            os.write(2, f"anonfs: private memory has no place in a child: {error}\n".encode())
            os.abort()
        self._drop.detach()
        if isinstance(copy, int):
            close_descriptor(self._inode.descriptor)
            self._keep(_Inode(os.getpid(), self._inode.directory, copy))
            return
        self._error = copy
        self._inode.close()
        with suppress(BufferError):
            super().close()

    def __exit__(
        self,
        kind: object = None,
        error: object = None,
        trace: object = None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self)} bytes"
        return f"<{type(self).__name__} {state}>"


def _rounded(size: int) -> int:
    return pages_for(size) * PAGE_SIZE
