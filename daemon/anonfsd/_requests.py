"""The request threads: they take every request from the kernel and answer page faults themselves.

A READ or WRITE of a file with pages is a page fault or a write-back, and there may be a hundred
thousand a second, so it is answered at once where it is received. Everything else goes to pyfuse3
over a socket, which it takes for its device, and what it answers goes from there to the kernel::

    /dev/fuse ──▶ leader ──READ, WRITE──▶ Paging ──▶ /dev/fuse
                    │                                    ▲
                    └──all others──▶ socket ──▶ pyfuse3 ─┘ (by a thread of its own)

So are the daemon's own opens (`OwnFiles`): nobody else needs to know of them, and with
FOPEN_NOFLUSH the kernel does not write a whole file back when one is closed. A SETXATTR of its own
means that it has the lock of an inode (`InodeLock`).

One thread is the *leader*, which alone waits for requests. Before it waits for a disk, or for room,
it lets another one lead: so a fault that is served from memory meets no other thread, and any
number that are not wait side by side.

    measured, a random fault of 4 KiB, client and daemon on one processor: 16 to 18 us in a thread
    that blocks in read(2), 19 to 24 in an event loop, 33 and more through pyfuse3
"""

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable

from anonfs.swap import aligned_pages
from anonfsd._callers import is_own_thread
from anonfsd._paging import Paging

__all__ = ["Requests"]

log = logging.getLogger(__name__)

_OPEN, _READ, _WRITE, _RELEASE, _SETXATTR, _INTERRUPT = 14, 15, 16, 18, 21, 36
_IN = struct.Struct("=IIQQIII")  # len, opcode, unique, nodeid, uid, gid, pid
_IN_SIZE = 40
_RANGE = struct.Struct("=QQII")  # fuse_read_in, fuse_write_in: fh, offset, size, flags
_FAULT_SIZE = _IN_SIZE + 40  # the header of a READ and of a WRITE; then a WRITE's data
_OUT = struct.Struct("=IiQ")  # len, error, unique
_WRITE_OUT = struct.Struct("=II")
_OPEN_OUT = struct.Struct("=QII")  # fh, open_flags
_RELEASE_IN = struct.Struct("=Q")  # fh
_KEEP_CACHE, _NOFLUSH = 1 << 1, 1 << 5
_WRITE_CACHE = 1 << 0
_OWN_HANDLE = 1 << 63

_LARGEST_WRITE = 1 << 20
_PAYLOAD_PAGES = (_LARGEST_WRITE >> 12) + 1
_THREADS = 8
_BRIEF = 16 << 10
_CROWDED = 64
_GONE = {errno.ENODEV, errno.EBADF, errno.ENOTCONN}


class Requests:
    """Takes requests from ``device``; those that ``paging`` does not answer go to ``others``.

    ``granted`` is called with the number of a SETXATTR of the daemon's own, and answers it later;
    ``on_end``, by a thread, once the connection is gone.
    """

    def __init__(
        self,
        device: int,
        others: socket.socket,
        paging: Paging,
        granted: Callable[[int], None],
        on_end: Callable[[], None],
    ) -> None:
        self._device = device
        self._others = others
        self._paging = paging
        self._granted = granted
        self._lead = _Lead()
        self._on_end = on_end
        self._ended = False

    def start(self) -> None:
        """Begin to take requests. The threads end with the connection, or with the process."""
        for number in range(_THREADS):
            name = f"fault-{number}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        threading.Thread(target=self._pass_answers, name="answers", daemon=True).start()

    def stop(self) -> None:
        """Answer nothing from now on."""
        self._ended = True

    def _serve(self) -> None:
        worker = _Worker(self._device, self._others, self._paging, self._granted, self._lead)
        try:
            while not self._ended:
                worker.lead(lambda: self._ended)
        except OSError as error:
            if error.errno not in _GONE:
                log.exception("%s: no more requests can be taken", threading.current_thread().name)
            self._ended = True
            self._on_end()

    def _pass_answers(self) -> None:
        buffer = memoryview(bytearray(2 * _LARGEST_WRITE))
        # It ends when pyfuse3 has closed its end, with a reset if it has left something unread.
        with contextlib.suppress(ConnectionResetError):
            while size := self._others.recv_into(buffer):
                self._pass_answer(buffer[:size])

    def _pass_answer(self, answer: memoryview) -> None:
        try:
            os.write(self._device, answer)
        except OSError as error:
            # The request was withdrawn, or the connection is gone: nobody waits for it.
            if error.errno not in {errno.ENOENT, *_GONE}:
                log.error("an answer was refused: %s", error)  # noqa: TRY400


class _Lead:
    """The right to receive, which one thread has at a time.

    ``crowded`` is how often it is still to be given up for a page from the disk: waking another
    thread can take as long as that page, so it pays only where requests come side by side.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.crowded = 0


class _Worker:
    """What one thread receives into, and what it does with a request."""

    def __init__(
        self,
        device: int,
        others: socket.socket,
        paging: Paging,
        granted: Callable[[int], None],
        lead: _Lead,
    ) -> None:
        self._device = device
        self._others = others
        self._paging = paging
        self._granted = granted
        self._lead = lead
        self._leads = False
        self._waited = False
        self._header = bytearray(_FAULT_SIZE)
        self._payload = aligned_pages(_PAYLOAD_PAGES).data.cast("B")
        self._message: list[bytearray | memoryview] = [self._header, self._payload]
        self._unique = 0
        self._pending = select.poll()
        self._pending.register(device, select.POLLIN)

    def lead(self, ended: Callable[[], bool]) -> None:
        """Wait to be the leader, and take requests until one of them has to wait.

        Raises OSError: the connection is gone.
        """
        self._lead.lock.acquire()
        self._leads = True
        try:
            while self._leads and not ended():
                self._take()
        finally:
            self.let_lead()

    def let_lead_for(self, size: int) -> None:
        """Let another thread lead while ``size`` bytes are read from a disk, if that pays."""
        if size <= _BRIEF and not self._lead.crowded:
            self._waited = True
            return
        self._lead.crowded = max(0, self._lead.crowded - 1)
        self.let_lead()

    def let_lead(self) -> None:
        """Let another thread lead."""
        if self._leads:
            self._leads = False
            self._lead.lock.release()

    def _take(self) -> None:
        try:
            size = os.readv(self._device, self._message)
        except OSError as error:
            # Withdrawn before it was read.
            if error.errno in {errno.ENOENT, errno.EINTR, errno.EAGAIN}:
                return
            raise
        _, opcode, unique, ino, _, _, pid = _IN.unpack_from(self._header)
        self._unique = unique
        if opcode in {_READ, _WRITE} and self._paging.serves(ino):
            self._answer_fault(opcode, ino)
        elif opcode == _OPEN and is_own_thread(pid):
            self.reply(_OPEN_OUT.pack(_OWN_HANDLE, _KEEP_CACHE | _NOFLUSH, 0))
        elif (
            opcode == _RELEASE and _RELEASE_IN.unpack_from(self._header, _IN_SIZE)[0] == _OWN_HANDLE
        ):
            self.reply(b"")
        elif opcode == _SETXATTR and is_own_thread(pid):
            self._granted(unique)
        elif opcode == _INTERRUPT:
            # Nothing here can be interrupted; the kernel need not try again.
            self._reply_error(errno.ENOSYS)
        else:
            self._pass_on(size)

    def _answer_fault(self, opcode: int, ino: int) -> None:
        handle, offset, size, flags = _RANGE.unpack_from(self._header, _IN_SIZE)
        self._waited = False
        if opcode == _READ:
            own = handle == _OWN_HANDLE
            error = self._paging.read(ino, offset, size, self, own=own)
        else:
            back = bool(flags & _WRITE_CACHE)
            error = self._paging.write(ino, offset, self._payload[:size], self, back=back)
            if not error:
                self.reply(_WRITE_OUT.pack(size, 0))
        if error:
            self._reply_error(error)
        if self._waited and self._pending.poll(0):
            self._lead.crowded = _CROWDED

    def reply(self, data: bytes | memoryview) -> None:
        """Answer the request that was taken last."""
        size = len(data)
        header = _OUT.pack(_OUT.size + size, 0, self._unique)
        with contextlib.suppress(FileNotFoundError):  # withdrawn
            os.writev(self._device, [header, data] if size else [header])

    def _reply_error(self, error: int) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.write(self._device, _OUT.pack(_OUT.size, -error, self._unique))

    def _pass_on(self, size: int) -> None:
        rest = size - _FAULT_SIZE
        if rest <= 0:
            self._others.send(memoryview(self._header)[:size])
        else:
            self._others.sendmsg([self._header, self._payload[:rest]])
