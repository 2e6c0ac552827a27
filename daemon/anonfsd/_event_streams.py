"""Event streams: ``.anonfs/events`` as it is opened, read and waited for.

Its requests are answered here and not by pyfuse3, for three reasons: a READ that waits takes no
worker, a READ or POLL has to be known by its number to be answered later or interrupted, and
pyfuse3 tells neither O_NONBLOCK nor who asks::

    request threads ──OPEN, READ, POLL, RELEASE, INTERRUPT──▶ EventStreams ──▶ answers at once
                                                                 ▲   │
    operations ──▶ EventLog ──▶ EventReader ──there is something─┘   └──▶ a thread ──▶ the others

A READ is answered at once where there are events, with whole lines while they fit. Where there are
none it waits, and takes nothing but a record of its number; a signal to its reader ends it with
EINTR, and with O_NONBLOCK it is EAGAIN. It keeps no page and no lock of an inode, so nobody else
ever waits for it. poll(2) says readable where a READ would not wait.

Who waits is served at once, and then rests for a moment: what happens meanwhile comes in one piece.
A follower that was woken for each of fifty thousand events a second would take the processor from
those whom it follows.

An open stream keeps a mount in use, as any open file does. So that those who follow do not keep the
daemon of an unmounted mount, `end` lets every stream come to its end: what is left, then 0 bytes.
"""

import contextlib
import errno
import itertools
import logging
import os
import select
import struct
import threading
import time
from collections import Counter
from functools import partial

from anonfs.errors import require
from anonfs.vm import EventLog, EventReader
from anonfsd._audience import Audience
from anonfsd._engine_lock import EngineLock

__all__ = ["EventStreams"]

log = logging.getLogger(__name__)

_OPEN, _READ, _RELEASE, _FSYNC, _FLUSH, _INTERRUPT, _POLL = 14, 15, 18, 20, 25, 36, 40
_OUT = struct.Struct("=IiQ")  # fuse_out_header: len, error, unique
_OPEN_IN = struct.Struct("=I")  # flags
_OPEN_OUT = struct.Struct("=QII")  # fh, open_flags
_HANDLE = struct.Struct("=Q")  # what a READ, POLL, FLUSH and RELEASE begin with
_READ_IN = struct.Struct("=QQIIQI")  # fh, offset, size, read_flags, lock_owner, flags
_POLL_IN = struct.Struct("=QQI")  # fh, kh, flags
_POLL_OUT = struct.Struct("=II")  # revents
_WAKEUP = struct.Struct("=Q")  # kh
_INTERRUPT_IN = struct.Struct("=Q")  # unique
_NOTIFY_POLL = 1
_SCHEDULE_NOTIFY = 1
_OPEN_FLAGS = 1 << 0 | 1 << 2 | 1 << 4  # direct_io, nonseekable, stream

# An asynchronous read counts as background, of which there may be 12: it must not wait.
_DOES_NOT_WAIT = os.O_NONBLOCK | os.O_DIRECT
_READABLE = select.POLLIN | select.POLLRDNORM

_MOST_OF_ONE = 64
_MOST = 512
# A fork of a process with ten thousand areas is so many events at once.
_MOST_LINES = 16384
_MOST_BYTES = 4 << 20
_DISTRUST = 16
_REST_SECONDS = 0.002


class _Stream:
    """An open file description of user ``uid``; ``reads`` wait, each number with its size.

    Who waits for it, in a READ or with ``poll``, is let wait for more until ``rests_until``.
    """

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.reader: EventReader
        self.reads: dict[int, int] = {}
        self.poll: int | None = None
        self.is_due = False
        self.rests_until = 0.0

    @property
    def is_resting(self) -> bool:
        """Whether it was served a moment ago."""
        return time.monotonic() < self.rests_until

    def take(self, size: int) -> bytes:
        """What there is to read."""
        self.rests_until = time.monotonic() + _REST_SECONDS
        return self.reader.take(size)


class EventStreams:
    """The streams of ``log``, answered on ``device``, with ``lock`` held for bookkeeping.

    ``number`` is the inode number of the file.
    """

    def __init__(
        self, device: int, number: int, lock: EngineLock, log: EventLog, audience: Audience
    ) -> None:
        self._device = device
        self._number = number
        self._lock = lock
        self._log = log
        self._audience = audience
        self._handles = itertools.count(1)
        self._streams: dict[int, _Stream] = {}
        self._of_user: Counter[int] = Counter()
        self._told: set[int] = set()
        self._due: list[_Stream] = []
        self._is_due = lock.condition()
        self._ended: set[_Stream] = set()
        self._answers = {
            _OPEN: self._open,
            _READ: self._read,
            _POLL: self._poll,
            _FLUSH: self._nothing,
            _FSYNC: self._nothing,
            _RELEASE: self._release,
            _INTERRUPT: self._interrupt,
        }

    def start(self) -> None:
        """Start the thread that answers those who waited; it ends with the process."""
        threading.Thread(target=self._deliver_for_ever, name="events", daemon=True).start()

    @property
    def any_open(self) -> bool:
        """Whether somebody follows."""
        return bool(self._streams)

    # -- what the request threads pass on ----------------------------------------------------

    def serves(self, opcode: int, ino: int) -> bool:
        """Whether a request is answered here: also an INTERRUPT, for nobody else can be."""
        return opcode == _INTERRUPT or (ino == self._number and opcode in self._answers)

    def take(self, opcode: int, unique: int, uid: int, body: memoryview) -> None:
        """Answer the request ``unique`` of user ``uid``, or later; ``body`` follows its header."""
        with self._lock:
            try:
                answer = self._answers[opcode](unique, uid, body)
            except OSError as refused:
                self._send(unique, b"", -(refused.errno or errno.EIO))
                return
        if answer is not None:
            self._send(unique, answer)

    # -- the requests, with the lock held: an answer, None for later; raise OSError -----------

    def _open(self, _unique: int, uid: int, body: memoryview) -> bytes:
        (flags,) = _OPEN_IN.unpack_from(body)
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            raise OSError(errno.EPERM, "read-only")
        self._refuse_many(uid)
        stream = _Stream(uid)
        trusted = self._audience.is_trusted(uid)
        stream.reader = EventReader(
            sight=partial(self._audience.sight, uid),
            wake=partial(self._note_due, stream),
            most_lines=_MOST_LINES if trusted else _MOST_LINES // _DISTRUST,
            most_bytes=_MOST_BYTES if trusted else _MOST_BYTES // _DISTRUST,
        )
        self._log.open(stream.reader, past=trusted)
        handle = next(self._handles)
        self._streams[handle] = stream
        self._of_user[uid] += 1
        return _OPEN_OUT.pack(handle, _OPEN_FLAGS, 0)

    def _refuse_many(self, uid: int) -> None:
        if self._of_user[uid] >= _MOST_OF_ONE:
            if uid not in self._told:
                self._told.add(uid)
                log.warning("user %d has %d event streams open: no more", uid, _MOST_OF_ONE)
            raise OSError(errno.EMFILE, "too many event streams of one user")
        if len(self._streams) >= _MOST:
            raise OSError(errno.ENFILE, "too many event streams")

    def _stream(self, body: memoryview) -> _Stream:
        try:
            return self._streams[_HANDLE.unpack_from(body)[0]]
        except KeyError:
            raise OSError(errno.EBADF, "no such stream") from None

    def _read(self, unique: int, _uid: int, body: memoryview) -> bytes | None:
        stream = self._stream(body)
        _, _, size, _, _, flags = _READ_IN.unpack_from(body)
        waits = not flags & _DOES_NOT_WAIT
        # Those that wait already come first.
        if stream.reader.is_ready and not stream.reads and not (waits and stream.is_resting):
            return stream.take(size)
        if not size or (stream in self._ended and not stream.reader.is_ready):
            return b""
        if not waits:
            raise OSError(errno.EAGAIN, "nothing has happened")
        stream.reads[unique] = size
        if stream.reader.is_ready:
            self._note_due(stream)
        return None

    def _poll(self, _unique: int, _uid: int, body: memoryview) -> bytes:
        stream = self._stream(body)
        _, handle, flags = _POLL_IN.unpack_from(body)
        events = _READABLE if stream.reader.is_ready else 0
        # Even where it is readable already: who asks for edges (EPOLLET) waits for the next event.
        if flags & _SCHEDULE_NOTIFY:
            stream.poll = handle
            if events and stream.is_resting:
                events = 0
                self._note_due(stream)
        if stream in self._ended:
            events |= _READABLE | select.POLLHUP
        return _POLL_OUT.pack(events, 0)

    def _nothing(self, _unique: int, _uid: int, body: memoryview) -> bytes:
        self._stream(body)
        return b""

    def _release(self, _unique: int, _uid: int, body: memoryview) -> bytes:
        stream = self._stream(body)
        del self._streams[_HANDLE.unpack_from(body)[0]]
        self._log.close(stream.reader)
        self._of_user[stream.uid] -= 1
        if not self._of_user[stream.uid]:
            del self._of_user[stream.uid]
            self._told.discard(stream.uid)
        self._ended.discard(stream)
        return b""

    def _interrupt(self, _unique: int, _uid: int, body: memoryview) -> None:
        """Somebody got a signal: end the wait if it is for a READ. This itself has no answer."""
        (waiting,) = _INTERRUPT_IN.unpack_from(body)
        for stream in self._streams.values():
            if stream.reads.pop(waiting, None) is not None:
                self._send(waiting, b"", -errno.EINTR)

    # -- what comes later ----------------------------------------------------------------------

    def end(self) -> None:
        """Let the streams that are open come to their end; with the lock held."""
        self._ended.update(self._streams.values())
        for stream in self._ended:
            self._note_due(stream)

    def _note_due(self, stream: _Stream) -> None:
        """There is something to take from ``stream``."""
        if not stream.is_due and (stream.reads or stream.poll is not None):
            stream.is_due = True
            self._due.append(stream)
            self._is_due.notify()

    def _deliver_for_ever(self) -> None:
        while True:
            with self._lock:
                while not self._due:
                    self._is_due.wait()
            self._deliver()
            time.sleep(_REST_SECONDS)

    def _deliver(self) -> None:
        with self._lock:
            due, self._due = self._due, []
            messages = [message for stream in due for message in self._owed(stream)]
        for unique, body, error in messages:
            self._send(unique, body, error)

    def _owed(self, stream: _Stream) -> list[tuple[int, bytes, int]]:
        """The answers and the wakeup that ``stream`` has to send by now."""
        stream.is_due = False
        messages = []
        while stream.reads and (stream.reader.is_ready or stream in self._ended):
            unique = next(iter(stream.reads))
            size = stream.reads.pop(unique)
            messages.append((unique, stream.take(size), 0))
        if stream.poll is not None:
            messages.append((0, _WAKEUP.pack(stream.poll), _NOTIFY_POLL))
            stream.poll = None
        return messages

    def check_invariants(self) -> None:
        """With the lock held: recount the streams of each user, and what is due."""
        streams = self._streams.values()
        counted = Counter(stream.uid for stream in streams)
        require(counted == self._of_user, "the streams of a user are miscounted")
        require(self._ended <= set(streams), "a stream has ended that is not open")
        due = [stream for stream in streams if stream.is_due]
        require(set(due) <= set(self._due), "a stream is due that will not be served")

    def _send(self, unique: int, body: bytes, error: int = 0) -> None:
        header = _OUT.pack(_OUT.size + len(body), error, unique)
        # Withdrawn, or the connection is gone: nobody waits for it.
        with contextlib.suppress(OSError):
            os.writev(self._device, [header, body] if body else [header])
