"""Asynchronous reads of single pages: Linux's io_submit(2), for a thread that has more to do.

A thread that blocks in pread(2) reads one page at a time, and to read more side by side takes more
threads, which wake each other. Here one thread asks for any number, and an eventfd says that some
have come::

    ask, ask, submit ──▶ kernel ──▶ disk ──▶ completion ring    an event for the eventfd
                                                   └─────────────────▶ completed

Only a file that is read past the page cache (O_DIRECT) is read asynchronously: any other is read
by the submit itself. A submit takes 20 us and more in a virtual machine, for any number of pages.
The structures are those of <linux/aio_abi.h>; there is no libaio in it.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from typing import Self

from anonfs.errors import AnonfsError
from anonfs.swap._buffers import aligned_pages
from anonfs.units import PAGE_SIZE

__all__ = ["AsyncReads"]

_SYSCALLS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""io_setup, io_destroy, io_getevents, io_submit."""

_PREAD, _RESFD = 0, 1
_IOCB = struct.Struct("=QIIHhIQQqQII")
_IOCB_OFFSET_AT = 40
_EVENT = struct.Struct("=QQqq")  # data, iocb, res, res2

# Calls that never wait: giving up the interpreter lock for them would cost more than they take.
_libc = ctypes.PyDLL(None, use_errno=True)


class AsyncReads:
    """Up to ``most`` reads of a page each from ``fd`` at a time; for one thread at a time.

    Raises OSError when made: the kernel has no asynchronous I/O, or no more of it.
    """

    def __init__(self, fd: int, most: int) -> None:
        numbers = _SYSCALLS.get(platform.machine())
        if numbers is None:
            raise AnonfsError(errno.ENOSYS, "asynchronous I/O")
        setup, self._destroy, self._getevents, self._submit = map(ctypes.c_long, numbers)
        self._context = ctypes.c_ulong()
        _call(setup, ctypes.c_long(most), ctypes.byref(self._context))
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._most = most
        pages = aligned_pages(most)
        self._pages = [page.data for page in pages]
        self._iocbs = bytearray(most * _IOCB.size)
        self._events = bytearray(most * _EVENT.size)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._iocbs))
        self._iocb_at = [base + number * _IOCB.size for number in range(most)]
        self._asked: list[int] = []
        self._list = (ctypes.c_void_p * most)()  # what io_submit takes: addresses of iocbs
        self._failed: list[tuple[int, int]] = []
        self._events_at = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(self._events)))
        self._none, self._all = ctypes.c_long(0), ctypes.c_long(most)
        for number, page in enumerate(pages):
            address = page.ctypes.data
            fields = number, 0, 0, _PREAD, 0, fd, address, PAGE_SIZE, 0, 0, _RESFD, self._eventfd
            _IOCB.pack_into(self._iocbs, number * _IOCB.size, *fields)
        self._free = list(range(most))

    def fileno(self) -> int:
        """An eventfd with an event for each read that completed, for EPOLLET: nobody reads it."""
        return self._eventfd

    def ask(self, offset: int) -> int | None:
        """Ask for the page at ``offset`` (bytes): its number, or None while there are ``most``."""
        if not self._free:
            return None
        number = self._free.pop()
        struct.pack_into("=q", self._iocbs, number * _IOCB.size + _IOCB_OFFSET_AT, offset)
        self._list[len(self._asked)] = self._iocb_at[number]
        self._asked.append(number)
        return number

    def submit(self) -> None:
        """Begin to read what was asked for, all at once: most of the cost is that of the call."""
        asked, self._asked, first = self._asked, [], 0
        while first < len(asked):
            at = ctypes.byref(self._list, first * ctypes.sizeof(ctypes.c_void_p))
            count = ctypes.c_long(len(asked) - first)
            done = _libc.syscall(self._submit, self._context, count, at)
            if done <= 0:
                # The kernel refuses the first of them, whatever becomes of the others.
                self._failed.append((asked[first], -ctypes.get_errno()))
                os.eventfd_write(self._eventfd, 1)
                done = 1
            first += done

    def completed(self) -> Iterator[tuple[int, memoryview, OSError | None]]:
        """The reads that have ended: number, page, and why it is not what is on the disk.

        The page is the reader's until the next is asked for.
        """
        failed, self._failed = self._failed, []
        for number, result in failed:
            yield number, self._pages[number], _error(result)
            self._free.append(number)
        found = _libc.syscall(
            self._getevents, self._context, self._none, self._all, self._events_at, None
        )
        for at in range(0, max(found, 0) * _EVENT.size, _EVENT.size):
            number, _, result, _ = _EVENT.unpack_from(self._events, at)
            yield number, self._pages[number], _error(result)
            self._free.append(number)

    @property
    def under_way(self) -> int:
        """How many have not been handed out by `completed`."""
        return self._most - len(self._free)

    def close(self) -> None:
        """Wait for what is under way, and give it all back."""
        _libc.syscall(self._destroy, self._context)
        os.close(self._eventfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _error(result: int) -> OSError | None:
    if result == PAGE_SIZE:
        return None
    return AnonfsError(-result if result < 0 else errno.EIO, "an asynchronous read")


def _call(number: ctypes.c_long, *arguments: object) -> None:
    if _libc.syscall(number, *arguments) < 0:
        raise AnonfsError(ctypes.get_errno(), "asynchronous I/O")
