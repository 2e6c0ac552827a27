"""Request threads between a kernel and a pyfuse3 that are sockets, with the bytes of the real ones.

The layouts are those of linux/fuse.h.
"""

import errno
import os
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anonfs.swap import AsyncReads
from anonfs.units import PAGE_SIZE
from anonfsd._at_once import Requester, WaitsError
from anonfsd._connection import _widen
from anonfsd._paging import Receiver
from anonfsd._putting_off import Late
from anonfsd._requests import Answerers, Requests
from anonfsd._standstill import Waiting
from tests.daemon.paged import soon

_FORGET, _GETATTR, _OPEN, _READ, _WRITE, _RELEASE, _SETXATTR, _INTERRUPT = (
    2,
    3,
    14,
    15,
    16,
    18,
    21,
    36,
)
_FSYNC, _FALLOCATE, _LSEEK = 20, 43, 46
_FILE, _OTHER, _EVENTS, _AT_ONCE = 7, 8, 9, 10
_SECONDS = 20


class FakeRead:
    """A read of ``size`` bytes of the page at ``offset`` of a swap file."""

    def __init__(self, offset: int, size: int) -> None:
        self._offset = offset
        self._size = size
        self.data = memoryview(b"")

    def begin(self, reads: AsyncReads) -> int | None:
        return reads.ask(self._offset)

    def take(self, page: memoryview) -> None:
        self.data = page[: self._size]


class FakePaging:
    """Serves one file. While the ``gate`` is shut, READs of what is behind ``far`` wait for it."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int, int, bool]] = []
        self.writes: list[tuple[int, int, bytes, bool]] = []
        self.error = self.failing_reads = 0
        self.nameless = False
        self.far = self.on_swap = 1 << 40
        self.gate = threading.Event()
        self.inside = threading.Semaphore(0)

    def serves(self, ino: int) -> bool:
        return ino == _FILE

    def is_nameless(self, ino: int) -> bool:
        return self.nameless and ino == _FILE

    def read(self, ino: int, offset: int, size: int, thread: Receiver, *, own: bool) -> int:
        self.reads.append((ino, offset, size, own))
        if self.error:
            return self.error
        if offset >= self.far:
            thread.let_lead()
            self.inside.release()
            assert self.gate.wait(_SECONDS)
        read: Any = FakeRead(offset - self.on_swap, size)
        if offset >= self.on_swap and thread.begin(read):
            return 0
        thread.reply(memoryview(b"%d" % offset * size)[:size])
        return 0

    def end_read(self, read: FakeRead, page: memoryview, error: OSError | None) -> int:
        assert error is None
        read.take(page)
        return self.failing_reads

    def write(
        self, ino: int, offset: int, data: memoryview, thread: Receiver, *, back: bool
    ) -> int:
        self.writes.append((ino, offset, bytes(data), back))
        error = self.error
        if not error:
            thread.reply(struct.pack("=II", len(data), 0))
        return error


class FakeSizing:
    """Takes FALLOCATEs."""

    def __init__(self) -> None:
        self.allocated: list[tuple[int, int, int, int]] = []
        self.error = 0

    def allocate(self, ino: int, offset: int, size: int, mode: int, thread: Receiver) -> int:
        self.allocated.append((ino, offset, size, mode))
        error = self.error
        if not error:
            thread.reply(b"")
        return error


class FakeSeeking:
    """Finds all there is at once."""

    def seek(self, ino: int, offset: int, whence: int, thread: Receiver) -> int:
        if whence != os.SEEK_DATA:
            return errno.ENXIO
        thread.reply(b"%d of %d" % (offset, ino))
        return 0


class FakeRoom:
    """Has none for the moment."""

    is_full = False

    def __init__(self) -> None:
        self.put_off: queue.SimpleQueue[tuple[Callable[[Late], int], Waiting]]
        self.put_off = queue.SimpleQueue()
        self.sizes: list[int] = []

    def answer_later(self, answer: Callable[[Late], int], waiting: Waiting, size: int = 0) -> bool:
        self.sizes.append(size)
        self.put_off.put((answer, waiting))
        return not self.is_full


class FakeEvents:
    """Serves one file, and whatever is an INTERRUPT."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int, int, bytes]] = []

    def serves(self, opcode: int, ino: int) -> bool:
        return opcode == _INTERRUPT or (ino == _EVENTS and opcode in {_OPEN, _READ})

    def take(self, opcode: int, unique: int, uid: int, body: memoryview) -> None:
        self.taken.append((opcode, unique, uid, bytes(body)))


class FakeAtOnce:
    """Serves one inode: answers with what it was asked, FORGET not at all, FSYNC never at once."""

    def serves(self, _opcode: int, ino: int) -> bool:
        return ino == _AT_ONCE

    def answer(
        self, opcode: int, _ino: int, requester: Requester, body: memoryview
    ) -> tuple[int, bytes | None]:
        if opcode == _FSYNC:
            raise WaitsError
        if opcode == _FORGET:
            return 0, None
        return (errno.ENOENT, None) if not body else (0, b"%d " % requester.pid + body)


class Kernel:
    """The other end of the device, and of the socket to pyfuse3."""

    def __init__(self, reads: AsyncReads | None = None) -> None:
        kinds = socket.AF_UNIX, socket.SOCK_SEQPACKET
        (self.device, self._theirs), (self.pyfuse, self._ours) = (
            socket.socketpair(*kinds),
            socket.socketpair(*kinds),
        )
        for end in (self.device, self._theirs, self.pyfuse, self._ours):
            _widen(end)
            end.settimeout(_SECONDS)
        self._theirs.setblocking(True)
        self._ours.setblocking(True)
        self.paging = FakePaging()
        self.sizing = FakeSizing()
        self.events = FakeEvents()
        self.room = FakeRoom()
        self.ended = threading.Event()
        paging: Any = self.paging
        sizing: Any = self.sizing
        events: Any = self.events
        at_once: Any = FakeAtOnce()
        room: Any = self.room
        seeking: Any = FakeSeeking()
        before = set(threading.enumerate())
        self.granted: list[int] = []
        self.requests = Requests(
            self._theirs.fileno(),
            self._ours,
            Answerers(paging, sizing, seeking, events, at_once, room),
            reads,
            lambda unique, _: self.granted.append(unique),
            self.ended.set,
        )
        self.requests.start()
        self._threads = set(threading.enumerate()) - before
        self._unique = 0

    def send(self, opcode: int, body: bytes, ino: int = _FILE, pid: int = 0) -> bytes:
        """Make a request; returns its bytes."""
        self._unique += 2
        header = struct.pack(
            "=IIQQIIIHH", 40 + len(body), opcode, self._unique, ino, 1000, 1000, pid, 0, 0
        )
        self.device.send(header + body)
        return header + body

    def answer(self) -> tuple[int, int, bytes]:
        """The next answer: which request it is of, its errno, and the rest."""
        message = self.device.recv(2 << 20)
        size, error, unique = struct.unpack_from("=IiQ", message)
        assert size == len(message)
        return unique, -error, message[16:]

    def call(self, opcode: int, body: bytes, ino: int = _FILE, pid: int = 0) -> tuple[int, bytes]:
        """The answer to a request, when no other is under way."""
        self.send(opcode, body, ino, pid)
        unique, error, rest = self.answer()
        assert unique == self._unique
        return error, rest

    def close(self) -> None:
        self.paging.gate.set()
        self.requests.stop()
        self.send(_INTERRUPT, bytes(8))
        self.pyfuse.close()
        for thread in self._threads:
            thread.join(_SECONDS)
            assert not thread.is_alive(), thread.name
        for end in (self.device, self._theirs, self._ours):
            end.close()


def fault(offset: int, size: int, fh: int = 3, flags: int = 0) -> bytes:
    """The body of a READ, or the beginning of that of a WRITE."""
    return struct.pack("=QQIIQII", fh, offset, size, flags, 0, 0, 0)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()


# -- faults --------------------------------------------------------------------------------


def test_a_read(kernel: Kernel) -> None:
    assert kernel.call(_READ, fault(4096, 9)) == (0, b"409640964")
    assert kernel.paging.reads == [(_FILE, 4096, 9, False)]
    assert kernel.call(_READ, fault(4096, 0)) == (0, b"")


@pytest.mark.parametrize("size", [1, 4096, 4097, 1 << 20])
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_a_write(kernel: Kernel, size: int, flags: int) -> None:
    data = os.urandom(size)
    body = fault(1 << 33, size, flags=flags) + data
    assert kernel.call(_WRITE, body) == (0, struct.pack("=II", size, 0))
    assert kernel.paging.writes == [(_FILE, 1 << 33, data, bool(flags & 1))]


def test_errors(kernel: Kernel) -> None:
    kernel.paging.error = errno.EIO
    assert kernel.call(_READ, fault(0, 9)) == (errno.EIO, b"")
    assert kernel.call(_WRITE, fault(0, 1) + b"x") == (errno.EIO, b"")


def test_a_seek(kernel: Kernel) -> None:
    body = struct.pack("=QQII", 3, 4096, os.SEEK_DATA, 0)
    assert kernel.call(_LSEEK, body) == (0, b"4096 of %d" % _FILE)
    assert kernel.call(_LSEEK, struct.pack("=QQII", 3, 0, os.SEEK_HOLE, 0)) == (errno.ENXIO, b"")


def test_what_finds_no_room_is_answered_later(kernel: Kernel) -> None:
    kernel.paging.error = kernel.sizing.error = errno.EDQUOT
    kernel.send(_WRITE, fault(0, 5) + b"first")
    kernel.send(_FALLOCATE, struct.pack("=QQQII", 3, 4096, 100, 0, 0))
    kernel.send(_READ, fault(0, 9))
    requests = [kernel.room.put_off.get(timeout=_SECONDS) for _ in range(3)]
    assert kernel.room.sizes == [5, 0, 0], "no more is kept than was to be written"
    kernel.paging.error = kernel.sizing.error = 0
    assert kernel.call(_WRITE, fault(0, 5) + b"other") == (0, struct.pack("=II", 5, 0))
    for (answer, waiting), said in zip(
        requests, (struct.pack("=II", 5, 0), b"", b"0" * 9), strict=True
    ):
        assert answer(Late(waiting)) == 0
        assert kernel.answer()[1:] == (0, said)
    assert [data for _, _, data, _ in kernel.paging.writes] == [b"first", b"other", b"first"]
    kernel.paging.error, kernel.room.is_full = errno.ENOSPC, True
    assert kernel.call(_READ, fault(0, 9)) == (errno.ENOSPC, b"")


def test_an_allocation(kernel: Kernel) -> None:
    body = struct.pack("=QQQII", 3, 4096, 100, 1, 0)
    assert kernel.call(_FALLOCATE, body) == (0, b"")
    assert kernel.sizing.allocated == [(_FILE, 4096, 100, 1)]
    kernel.sizing.error = errno.EOPNOTSUPP
    assert kernel.call(_FALLOCATE, body) == (errno.EOPNOTSUPP, b"")


# -- what never waits ----------------------------------------------------------------------


def test_what_is_answered_at_once(kernel: Kernel) -> None:
    assert kernel.call(_GETATTR, b"short", _AT_ONCE, pid=3) == (0, b"3 short")
    assert kernel.call(_GETATTR, b"", _AT_ONCE) == (errno.ENOENT, b"")
    long = os.urandom(4000)
    kernel.send(_FORGET, b"not answered", _AT_ONCE)
    assert kernel.call(_GETATTR, long, _AT_ONCE) == (0, b"0 " + long)
    for body in (b"short", long):
        message = kernel.send(_FSYNC, body, _AT_ONCE)
        assert kernel.pyfuse.recv(1 << 20) == message


# -- the daemon's own files ----------------------------------------------------------------


def test_a_file_of_our_own(kernel: Kernel) -> None:
    me = threading.get_native_id()
    error, opened = kernel.call(_OPEN, struct.pack("=II", os.O_RDONLY, 0), pid=me)
    handle, flags, backing = struct.unpack("=QII", opened)
    assert (error, backing) == (0, 0)
    assert flags == 1 << 1 | 1 << 5, "FOPEN_KEEP_CACHE, FOPEN_NOFLUSH"
    kernel.call(_READ, fault(0, 1, fh=handle), pid=me)
    assert kernel.paging.reads == [(_FILE, 0, 1, True)]
    assert kernel.call(_FSYNC, struct.pack("=QII", handle, 1, 0), pid=me) == (0, b"")
    release = struct.pack("=QIIQ", handle, os.O_RDONLY, 0, 0)
    assert kernel.call(_RELEASE, release) == (0, b""), "in the name of nobody"


def test_files_of_others_are_passed_on(kernel: Kernel) -> None:
    for opcode, body in (
        (_OPEN, struct.pack("=II", os.O_RDWR, 0)),
        (_RELEASE, struct.pack("=QIIQ", 3, os.O_RDWR, 0, 0)),
        (_FSYNC, struct.pack("=QII", 3, 1, 0)),
    ):
        sent = kernel.send(opcode, body)
        assert kernel.pyfuse.recv(1 << 20) == sent


def test_a_file_without_a_name_is_created_under_one_that_cannot_be(kernel: Kernel) -> None:
    body = struct.pack("=IIII", os.O_RDWR | os.O_TMPFILE, 0o100600, 0o22, 0) + b"/\0"
    sent = kernel.send(51, body)
    assert kernel.pyfuse.recv(1 << 20) == sent[:4] + struct.pack("=I", 35) + sent[8:]


# -- all others ----------------------------------------------------------------------------


def test_an_interrupt_is_passed_on_and_not_answered(kernel: Kernel) -> None:
    kernel.send(_INTERRUPT, struct.pack("=Q", 2))
    soon(lambda: bool(kernel.events.taken))
    (taken,) = kernel.events.taken
    assert (taken[0], taken[3][:8]) == (_INTERRUPT, struct.pack("=Q", 2))
    assert kernel.call(_READ, fault(0, 1)) == (0, b"0"), "which is the next answer"


def test_what_is_asked_of_the_events_is_theirs(kernel: Kernel) -> None:
    sent = kernel.send(_READ, fault(0, 1), ino=_EVENTS)
    soon(lambda: bool(kernel.events.taken))
    (unique,) = struct.unpack_from("=Q", sent, 8)
    assert kernel.events.taken == [(_READ, unique, 1000, fault(0, 1))]
    sent = kernel.send(_GETATTR, bytes(16), ino=_EVENTS)
    assert kernel.pyfuse.recv(1 << 20) == sent


@pytest.mark.parametrize("size", [0, 1, 24, 39, 40, 41, 65536])
def test_others_are_passed_on_byte_for_byte(kernel: Kernel, size: int) -> None:
    name = b"user.a\0"
    body = (struct.pack("=II", size, 0) + name + os.urandom(size))[: max(size, 1)]
    for opcode in (_GETATTR, _SETXATTR):
        sent = kernel.send(opcode, body)
        assert kernel.pyfuse.recv(1 << 20) == sent
    sent = kernel.send(_SETXATTR, struct.pack("=II", size, 0) + name + os.urandom(size))
    assert kernel.pyfuse.recv(1 << 20) == sent


def test_a_short_request_after_a_long_one(kernel: Kernel) -> None:
    """What is left of the last one in the buffers is nobody's business."""
    kernel.call(_WRITE, fault(0, 4096) + b"x" * 4096)
    sent = kernel.send(_GETATTR, bytes(16))
    assert kernel.pyfuse.recv(1 << 20) == sent


@pytest.mark.parametrize("opcode", [_READ, _WRITE])
def test_faults_of_what_has_no_pages_are_passed_on(kernel: Kernel, opcode: int) -> None:
    sent = kernel.send(opcode, fault(0, 5) + b"x" * 5, ino=_OTHER)
    assert kernel.pyfuse.recv(1 << 20) == sent
    assert not kernel.paging.reads
    assert not kernel.paging.writes


@pytest.mark.parametrize("size", [0, 100, 200_000])
def test_answers_are_passed_back(kernel: Kernel, size: int) -> None:
    answer = struct.pack("=IiQ", 16 + size, 0, 4) + os.urandom(size)
    kernel.pyfuse.send(answer)
    assert kernel.device.recv(1 << 20) == answer


# -- leading -------------------------------------------------------------------------------


def test_another_one_leads_while_one_waits(kernel: Kernel) -> None:
    kernel.paging.far = 1 << 20
    for number in range(5):
        kernel.send(_READ, fault((1 << 20) + number, 7))
    for _ in range(5):
        assert kernel.paging.inside.acquire(timeout=_SECONDS)
    assert kernel.call(_READ, fault(5, 1)) == (0, b"5")
    sent = kernel.send(_GETATTR, bytes(16))
    assert kernel.pyfuse.recv(1 << 20) == sent
    kernel.paging.gate.set()
    answers = sorted(kernel.answer() for _ in range(5))
    expected = [(2 * at + 2, 0, b"%d" % ((1 << 20) + at)) for at in range(5)]
    assert answers == expected, "each has its own"


def test_no_two_lead(kernel: Kernel) -> None:
    """After all have waited there is one that leads, and no more."""
    kernel.paging.far = 0
    for _ in range(3):
        for _ in range(8):
            kernel.send(_READ, fault(1, 1))
        for _ in range(8):
            assert kernel.paging.inside.acquire(timeout=_SECONDS)
        assert not kernel.requests._lead.lock.locked(), "nobody is left"
        kernel.paging.gate.set()
        assert {kernel.answer()[1:] for _ in range(8)} == {(0, b"1")}
        soon(kernel.requests._lead.lock.locked)
        kernel.paging.gate.clear()


# -- reading meanwhile ---------------------------------------------------------------------


_SLOTS = 64
_ON_SWAP = 1 << 30


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel whose pages from ``_ON_SWAP`` on are read from a file that says their number."""
    path = tmp_path / "swap"
    path.write_bytes(b"".join(b"%08d" % number * (PAGE_SIZE // 8) for number in range(_SLOTS)))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with AsyncReads(fd, _SLOTS // 2) as reads:
        kernel = Kernel(reads)
        kernel.paging.on_swap = _ON_SWAP
        yield kernel
        kernel.close()
    os.close(fd)


def test_pages_are_read_while_requests_are_taken(reading: Kernel) -> None:
    expected = {}
    for number in range(_SLOTS // 2):
        reading.send(_READ, fault(_ON_SWAP + number * PAGE_SIZE, 8))
        expected[reading._unique] = b"%08d" % number
        reading.send(_READ, fault(7, 1))
        expected[reading._unique] = b"7"
    answers = [reading.answer() for _ in expected]
    assert {unique: data for unique, _, data in answers} == expected
    assert reading.call(_READ, fault(5, 1)) == (0, b"5"), "and then it waits for requests alone"


def test_the_next_leader_answers_what_was_read_for_the_last(reading: Kernel) -> None:
    reading.paging.far = _ON_SWAP + _SLOTS * PAGE_SIZE
    for number in range(6):
        reading.send(_READ, fault(_ON_SWAP + number * PAGE_SIZE, 8))
        reading.send(_READ, fault(reading.paging.far, 1))
    found = {reading.answer()[2] for _ in range(6)}
    assert found == {b"%08d" % number for number in range(6)}
    reading.paging.gate.set()
    assert {reading.answer()[1:] for _ in range(6)} == {(0, b"1")}


def test_one_page_after_the_other(reading: Kernel) -> None:
    for number in (3, 9, 3):
        found = reading.call(_READ, fault(_ON_SWAP + number * PAGE_SIZE, 8))
        assert found == (0, b"%08d" % number)


def test_a_page_that_cannot_be_had(reading: Kernel) -> None:
    reading.paging.on_swap = 0
    reading.paging.failing_reads = errno.EIO
    assert reading.call(_READ, fault(0, 8)) == (errno.EIO, b"")
    reading.paging.failing_reads = 0
    assert reading.call(_READ, fault(0, 8)) == (0, b"00000000")


# -- the end -------------------------------------------------------------------------------


def _run_out(device: int) -> None:
    """Requests on a device that fails, to their end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ended = threading.Event()
    paging: Any = FakePaging()
    sizing: Any = FakeSizing()
    before = set(threading.enumerate())
    events: Any = FakeEvents()
    at_once: Any = FakeAtOnce()
    room: Any = FakeRoom()
    seeking: Any = FakeSeeking()
    answerers = Answerers(paging, sizing, seeking, events, at_once, room)
    Requests(device, ours, answerers, None, print, ended.set).start()
    assert ended.wait(_SECONDS)
    theirs.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(_SECONDS)
        assert not thread.is_alive(), thread.name
    ours.close()


def test_a_connection_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    device = os.open("/dev/null", os.O_WRONLY)  # reading it is EBADF
    _run_out(device)
    os.close(device)
    assert caplog.records == []


def test_a_device_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    device = os.open("/", os.O_RDONLY)
    _run_out(device)
    os.close(device)
    assert "no more requests can be taken" in caplog.text


def test_a_request_that_comes_when_pyfuse3_has_ended(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.pyfuse.close()
    kernel.send(_GETATTR, bytes(16), ino=_OTHER)
    assert kernel.ended.wait(_SECONDS)
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ECONNABORTED])
def test_a_connection_that_ends_while_it_is_read(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is unmounted, or it is aborted: either is an end, and no error."""

    def readv(_fd: int, _buffers: object) -> int:
        raise OSError(number, "gone")

    monkeypatch.setattr("anonfsd._requests.os.readv", readv)
    _run_out(-1)
    assert not caplog.records
