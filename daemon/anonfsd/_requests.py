"""The request threads: they take every request from the kernel and answer page faults themselves.

A READ or WRITE of a file with pages is a page fault or a write-back, and there may be a hundred
thousand a second, so it is answered at once where it is received. So is what never waits, see
`AtOnce`. Everything else goes to pyfuse3 over a socket, which it takes for its device, and what it
answers goes from there to the kernel::

    /dev/fuse ──▶ leader ──READ, WRITE──▶ Paging ──▶ /dev/fuse
                    │                                    ▲
                    ├──those of .anonfs/events──▶ EventStreams
                    │                                    │
                    ├──LOOKUP, OPEN, CREATE, ...──▶ AtOnce
                    │                                    │
                    └──all others──▶ socket ──▶ pyfuse3 ─┘ (by a thread of its own)

So are FALLOCATE and LSEEK, which pyfuse3 does not know, and the daemon's own opens (`OwnFiles`):
nobody else needs to know of them, and with FOPEN_NOFLUSH the kernel writes no whole file back when
one is closed. A SETXATTR of its own means that it has the lock of an inode (`InodeLock`). TMPFILE,
which pyfuse3 does not know either, is a CREATE of a name that nothing can have, and taken for that.

One thread is the *leader*, which alone waits for requests, see `Lead`. A page that is on swap it
has read meanwhile, asynchronously, and answers when it has come; before it waits for anything else,
for many pages or for room, it lets another one lead. So most faults meet no other thread, and any
number of them wait side by side.

    measured, a random fault of 4 KiB, client and daemon on one processor: 16 to 18 us in a thread
    that blocks in read(2), 19 to 24 in an event loop, 33 and more through pyfuse3
"""

import contextlib
import errno
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from anonfs.mm import OnePageRead
from anonfs.swap import AsyncReads, aligned_pages
from anonfsd._at_once import AtOnce, Requester, WaitsError
from anonfsd._callers import is_own_thread
from anonfsd._event_streams import EventStreams
from anonfsd._lead import Lead
from anonfsd._paging import Paging
from anonfsd._releases import Releases
from anonfsd._replies import Later, reply, reply_error
from anonfsd._room import NO_ROOM, Room
from anonfsd._seeking import Seeking
from anonfsd._sizing import Sizing

__all__ = ["Answerers", "Requests"]

log = logging.getLogger(__name__)

_OPEN, _READ, _WRITE, _RELEASE, _FSYNC, _SETXATTR, _FALLOCATE = 14, 15, 16, 18, 20, 21, 43
_CREATE, _LSEEK, _TMPFILE = 35, 46, 51
_OPCODE, _OPCODE_AT = struct.Struct("=I"), 4
_IN = struct.Struct("=IIQQIII")  # len, opcode, unique, nodeid, uid, gid, pid
_IN_SIZE = 40
_RANGE = struct.Struct("=QQII")  # fuse_read_in, fuse_write_in: fh, offset, size, flags
_FAULT_SIZE = _IN_SIZE + 40  # the header of a READ and of a WRITE; then a WRITE's data
_FALLOCATE_IN = struct.Struct("=QQQI")  # fh, offset, length, mode
_LSEEK_IN = struct.Struct("=QQI")  # fh, offset, whence
_OPEN_OUT = struct.Struct("=QII")  # fh, open_flags
_FH = struct.Struct("=Q")  # the first of fuse_release_in and of fuse_fsync_in
_KEEP_CACHE, _NOFLUSH = 1 << 1, 1 << 5
_WRITE_CACHE = 1 << 0
_OWN_HANDLE = 1 << 63

_LARGEST_WRITE = 1 << 20
_PAYLOAD_PAGES = (_LARGEST_WRITE >> 12) + 1
_THREADS = 8
_GONE = {errno.ENODEV, errno.ECONNABORTED, errno.EBADF, errno.ENOTCONN}


class Answerers(NamedTuple):
    """Who answers what, so that it is not passed on."""

    paging: Paging
    """READ and WRITE."""
    sizing: Sizing
    """FALLOCATE."""
    seeking: Seeking
    """LSEEK."""
    events: EventStreams
    """All that is asked of their file."""
    at_once: AtOnce
    """What does not wait."""
    room: Room
    """What finds none."""


class Requests:
    """Takes requests from ``device`` for ``answerers``, and for pyfuse3, which has the ``others``.

    ``reads`` reads single pages from swap; without it they wait in threads, as many pages do.
    ``granted`` is called with the number of a SETXATTR of the daemon's own and the thread that made
    it, and answers it later; ``on_end``, by a thread, once the connection is gone.
    """

    def __init__(
        self,
        device: int,
        others: socket.socket,
        answerers: Answerers,
        reads: AsyncReads | None,
        granted: Callable[[int, int], None],
        on_end: Callable[[], None],
    ) -> None:
        self._device = device
        self._others = others
        self._answerers = answerers
        self._granted = granted
        self._lead = Lead(device, reads)
        self._releases = Releases(device)
        self._on_end = on_end
        self._ended = False

    def start(self) -> None:
        """Begin to take requests. The threads end with the connection, or with the process."""
        self._releases.start()
        for number in range(_THREADS):
            name = f"fault-{number}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        threading.Thread(target=self._pass_answers, name="answers", daemon=True).start()

    def stop(self) -> None:
        """Answer nothing from now on."""
        self._ended = True

    def _serve(self) -> None:
        shared = self._answerers, self._granted, self._lead, self._releases
        worker = _Worker(self._device, self._others, *shared)
        try:
            while not self._ended:
                worker.lead(lambda: self._ended)
        except OSError as error:
            # A broken pipe is that of pyfuse3, which has ended: requests may come until the last.
            if error.errno not in {errno.EPIPE, *_GONE}:
                log.exception("%s: no more requests can be taken", threading.current_thread().name)
            self._ended = True
            self._on_end()

    def _pass_answers(self) -> None:
        buffer = memoryview(bytearray(2 * _LARGEST_WRITE))
        # It ends when pyfuse3 has closed its end, with a reset if it has left something unread.
        with contextlib.suppress(ConnectionResetError):
            while size := self._others.recv_into(buffer):
                self._pass_answer(buffer[:size])
        self._releases.end()

    def _pass_answer(self, answer: memoryview) -> None:
        try:
            os.write(self._device, answer)
        except OSError as error:
            # The request was withdrawn, or the connection is gone: nobody waits for it.
            if error.errno not in {errno.ENOENT, *_GONE}:
                log.error("an answer was refused: %s", error)  # noqa: TRY400


class _Worker:
    """What one thread receives into, and what it does with a request."""

    def __init__(
        self,
        device: int,
        others: socket.socket,
        answerers: Answerers,
        granted: Callable[[int, int], None],
        lead: Lead,
        releases: Releases,
    ) -> None:
        self._device = device
        self._others = others
        self._paging = answerers.paging
        self._sizing = answerers.sizing
        self._seeking = answerers.seeking
        self._events = answerers.events
        self._at_once = answerers.at_once
        self._room = answerers.room
        self._granted = granted
        self._lead = lead
        self._releases = releases
        self._leads = False
        self._header = bytearray(_FAULT_SIZE)
        self._payload = aligned_pages(_PAYLOAD_PAGES).data.cast("B")
        self._message: list[bytearray | memoryview] = [self._header, self._payload]
        self._unique = 0

    def lead(self, ended: Callable[[], bool]) -> None:
        """Wait to be the leader, and take requests until one of them has to wait.

        Raises OSError: the connection is gone.
        """
        self._lead.lock.acquire()
        self._leads = True
        try:
            while self._leads and not ended():
                self._take(ended)
        finally:
            self.let_lead()

    def later(self) -> Later:
        """What answers the request that was taken last, whenever."""
        return Later(self._device, self._unique)

    def begin(self, read: OnePageRead) -> bool:
        """Have ``read`` done while this thread goes on leading, if that can be."""
        return self._leads and self._lead.begin(self._unique, read)

    def let_lead(self) -> None:
        """Let another thread lead."""
        if self._leads:
            self._lead.submit()
            self._leads = False
            self._lead.lock.release()

    def _take(self, ended: Callable[[], bool]) -> None:
        if not self._lead.may_take():
            self._answer_reads(wait=False)
        size = self._receive()
        if size and not ended():
            self._answer(size)

    def _receive(self) -> int:
        """The size of a request that has been taken; 0 if there was none."""
        try:
            return os.readv(self._device, self._message)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                self._answer_reads(wait=True)
                return 0
            # Withdrawn before it was read.
            if error.errno in {errno.ENOENT, errno.EINTR}:
                return 0
            raise

    def _answer(self, size: int) -> None:
        _, opcode, self._unique, ino, uid, gid, pid = _IN.unpack_from(self._header)
        if opcode == _TMPFILE:
            opcode = _CREATE
            _OPCODE.pack_into(self._header, _OPCODE_AT, opcode)
        if opcode in {_READ, _WRITE} and self._paging.serves(ino):
            self._answer_fault(opcode, ino)
        elif self._events.serves(opcode, ino):
            self._events.take(opcode, self._unique, uid, memoryview(self._header)[_IN_SIZE:])
        elif opcode == _FALLOCATE:
            self._allocate(ino)
        elif opcode == _LSEEK:
            self._seek(ino)
        elif not self._answer_own(opcode, ino, pid) and not self._answer_at_once(
            opcode, ino, Requester(uid, gid, pid), size
        ):
            self._pass_on(size)

    def _answer_own(self, opcode: int, ino: int, pid: int) -> bool:
        """Answer what the daemon asks for itself; False if somebody else does."""
        if opcode == _OPEN and is_own_thread(pid):
            self.reply(_OPEN_OUT.pack(_OWN_HANDLE, _KEEP_CACHE | _NOFLUSH, 0))
        elif opcode in {_RELEASE, _FSYNC} and self._handle() == _OWN_HANDLE:
            self._finish(opcode, ino, b"")
        elif opcode == _SETXATTR and is_own_thread(pid):
            self._granted(self._unique, pid)
        else:
            return False
        return True

    def _answer_at_once(self, opcode: int, ino: int, requester: Requester, size: int) -> bool:
        """Answer what does not wait; False if somebody else does."""
        if not self._at_once.serves(opcode, ino):
            return False
        body = memoryview(self._header)[_IN_SIZE:size]
        if size > _FAULT_SIZE:
            body = memoryview(b"".join((body, self._payload[: size - _FAULT_SIZE])))
        try:
            error, answer = self._at_once.answer(opcode, ino, requester, body)
        except WaitsError:
            return False
        if error:
            self._reply_error(error)
        elif answer is not None:
            self._finish(opcode, ino, answer)
        return True

    def _finish(self, opcode: int, ino: int, answer: bytes) -> None:
        """Answer the request that was taken last, which has been done; aside where it takes long.

        The kernel refers to the inode until then.
        """
        if opcode == _RELEASE and self._paging.is_nameless(ino):
            self._releases.answer(self._unique)
        else:
            self.reply(answer)

    def _handle(self) -> int:
        handle: int = _FH.unpack_from(self._header, _IN_SIZE)[0]
        return handle

    def _answer_reads(self, *, wait: bool) -> None:
        """Answer what has been read from swap; with ``wait`` when it has, or a request has come."""
        for unique, read, page, failure in self._lead.ended(wait=wait):
            self._unique = unique
            if error := self._paging.end_read(read, page, failure):
                self._reply_error(error)
            else:
                self.reply(read.data)

    def _answer_fault(self, opcode: int, ino: int) -> None:
        handle, offset, size, flags = _RANGE.unpack_from(self._header, _IN_SIZE)
        if opcode == _READ:
            own = handle == _OWN_HANDLE
            self._answer_by(partial(self._paging.read, ino, offset, size, own=own))
        else:
            back = bool(flags & _WRITE_CACHE)
            write = partial(self._paging.write, ino, offset, back=back)
            self._answer_by(write, self._payload[:size])

    def _allocate(self, ino: int) -> None:
        _, offset, length, mode = _FALLOCATE_IN.unpack_from(self._header, _IN_SIZE)
        self._answer_by(partial(self._sizing.allocate, ino, offset, length, mode))

    def _seek(self, ino: int) -> None:
        _, offset, whence = _LSEEK_IN.unpack_from(self._header, _IN_SIZE)
        self._answer_by(partial(self._seeking.seek, ino, offset, whence))

    def _answer_by(self, answer: Callable[..., int], *data: memoryview) -> None:
        """Have the request that was taken last answered, later where it finds no room.

        ``answer`` is called with ``data``, which it does not keep, and its receiver.
        """
        error = answer(*data, self)
        if error in NO_ROOM:
            kept = [memoryview(bytes(part)) for part in data]
            size = sum(map(len, kept))
            if self._room.answer_later(partial(answer, *kept), self.later(), size):
                return
        if error:
            self._reply_error(error)

    def reply(self, data: bytes | memoryview) -> None:
        """Answer the request that was taken last."""
        reply(self._device, self._unique, data)

    def _reply_error(self, error: int) -> None:
        reply_error(self._device, self._unique, error)

    def _pass_on(self, size: int) -> None:
        rest = size - _FAULT_SIZE
        if rest <= 0:
            self._others.send(memoryview(self._header)[:size])
        else:
            self._others.sendmsg([self._header, self._payload[:rest]])
