"""userfaultfd(2) as a reporter: what a process does to its areas, told as it does it.

Areas are registered in write-protect mode, asynchronous (UFFD_FEATURE_WP_ASYNC): no fault ever
waits, which leaves the events. A process that forks, unmaps or remaps waits in the kernel until its
event has been read. Each message has 32 bytes::

    byte   0       8          16         24
           event   arg        arg        arg
           FORK    descriptor
           REMAP   from       to         length, as it was before
           UNMAP   start      end

They come in the order in which they were queued. The kernel queues each just after it has let go
of the lock of the address space: a thread that an interrupt holds up right there may be overtaken
by another of its process, and what a child then has or lacks against what was told looks find out.

Write protection has another use here. It belongs to page tables, so a page protected through a
descriptor shows in the pagemap of the very processes that have its address space: `shows_in` is
how a descriptor is proven to be of a process. The process may write to the page meanwhile, upon
which the kernel takes the mark away: no proof is not a proof of the opposite.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anonfs.units import PAGE_SIZE

__all__ = [
    "EVENTS",
    "WP_ASYNC",
    "Event",
    "Fork",
    "Remap",
    "Span",
    "Unmap",
    "handshake",
    "is_userfaultfd",
    "prepare",
    "read_events",
    "register",
    "shows_in",
    "unregister",
]

EVENTS = {"EVENT_FORK": 1, "EVENT_REMAP": 2, "EVENT_REMOVE": 3, "EVENT_UNMAP": 6}
"""The bits of the events (UFFD_FEATURE_EVENT_*)."""

WP_ASYNC = 15
"""The bit of UFFD_FEATURE_WP_ASYNC."""

_API = 0xC018AA3F
_REGISTER = 0xC020AA00
_UNREGISTER = 0x8010AA01
_WRITEPROTECT = 0xC018AA06
_API_VERSION = 0xAA
_MODE_WP = 2
_PROTECT = 1
_FORK, _REMAP, _UNMAP = 0x13, 0x14, 0x16
_MESSAGE = struct.Struct("=B7xQQQ")
_MESSAGES = 64
_LINK = "anon_inode:[userfaultfd]"
_PM_UFFD_WP = 57


@dataclass(frozen=True, slots=True)
class Fork:
    """The process has forked; ``descriptor`` reports on the child, and is the reader's."""

    descriptor: int


@dataclass(frozen=True, slots=True)
class Remap:
    """``length`` bytes at ``start`` are at ``to`` now, where there may be more of them."""

    start: int
    to: int
    length: int


@dataclass(frozen=True, slots=True)
class Unmap:
    """What was from ``start`` to before ``end`` is gone."""

    start: int
    end: int


Event = Fork | Remap | Unmap

Span = tuple[int, int]
"""Addresses, from the first to before the second."""


def is_userfaultfd(descriptor: int) -> bool:
    """Whether that is what ``descriptor`` is."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink()) == _LINK


def handshake(descriptor: int, features: int) -> int:
    """The features that the kernel has, once it has agreed to ``features`` (a mask of bits).

    Raises:
        OSError: EINVAL, it lacks one, or there was a handshake before; EPERM.
    """
    answer = bytearray(struct.pack("=QQQ", _API_VERSION, features, 0))
    fcntl.ioctl(descriptor, _API, answer)
    return int(struct.unpack("=QQQ", answer)[1])


def prepare(descriptor: int) -> None:
    """Make a new ``descriptor`` report all events, and be sure that reading it never waits.

    Raises:
        OSError: EINVAL, EPERM, EOPNOTSUPP: it cannot be used.
    """
    handshake(descriptor, sum(1 << bit for bit in (WP_ASYNC, *EVENTS.values())))
    read_events(descriptor)


def register(descriptor: int, start: int, end: int) -> None:
    """Have what happens to the area from ``start`` to ``end`` reported.

    It waits for the lock of the address space.

    Raises:
        OSError: EBUSY, another descriptor has it; ENOMEM, there is no address space any more;
            EINVAL, there is no area.
    """
    fcntl.ioctl(
        descriptor, _REGISTER, bytearray(struct.pack("=QQQQ", start, end - start, _MODE_WP, 0))
    )


def unregister(descriptor: int, spans: Iterable[Span]) -> None:
    """Have nothing reported of ``spans``; who waits for an event to be read goes on waiting.

    It waits for the lock of the address space.
    """
    for start, end in spans:
        with suppress(OSError):  # gone, or never registered
            fcntl.ioctl(descriptor, _UNREGISTER, struct.pack("=QQ", start, end - start))


def read_events(descriptor: int, *, private: bool = False) -> list[Event]:
    """The events that wait to be read, none if there are none; those who caused them go on.

    Whoever made the descriptor could make it block again, so each read says that it must not. One
    that came with a `Fork` is ``private``: the kernel knows no such read of it, and it never waits.

    Raises:
        OSError: EMFILE, a child's descriptor could not be made; EOPNOTSUPP, before Linux 6.10.
    """
    buffer = bytearray(_MESSAGE.size * _MESSAGES)
    try:
        if private:
            size = os.readv(descriptor, [buffer])
        else:
            size = os.preadv(descriptor, [buffer], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        return []
    messages = _MESSAGE.iter_unpack(memoryview(buffer)[:size])
    return [event for message in messages if (event := _event(*message)) is not None]


def _event(kind: int, first: int, second: int, third: int) -> Event | None:
    if kind == _FORK:
        child = first & 0xFFFFFFFF
        os.set_blocking(child, False)  # it has the flags of its parent's at its making
        return Fork(child)
    if kind == _REMAP:
        return Remap(first, second, third)
    if kind == _UNMAP:
        return Unmap(first, second)
    return None  # EVENT_REMOVE: pages went, the area did not


def shows_in(descriptor: int, address: int, pids: Iterable[int]) -> list[int]:
    """Those of ``pids`` that are seen to have the address space of ``descriptor``.

    ``address`` is of a page in a registered area. A child that was forked while the page was
    protected has it protected too, from then on: whom it is protected in anyway is not seen.

    Raises:
        OSError: ESRCH, the address space is gone; EAGAIN, an event has to be read first; ENOENT,
            no such area.
    """
    _protect(descriptor, address, _PROTECT)
    try:
        found = [pid for pid in pids if _is_protected(pid, address)]
    finally:
        with suppress(OSError):  # what is left protected costs one fault, which nobody waits for
            _protect(descriptor, address, 0)
    return [pid for pid in found if not _is_protected(pid, address)]


def _protect(descriptor: int, address: int, mode: int) -> None:
    fcntl.ioctl(descriptor, _WRITEPROTECT, bytearray(struct.pack("=QQQ", address, PAGE_SIZE, mode)))


def _is_protected(pid: int, address: int) -> bool:
    try:
        pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM}:
            return False
        raise
    try:
        entry = os.pread(pagemap, 8, address // PAGE_SIZE * 8)
    finally:
        os.close(pagemap)
    return bool(int.from_bytes(entry, "little") >> _PM_UFFD_WP & 1)
