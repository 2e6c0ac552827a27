"""The stream of events over a device that is a socket, with the bytes of linux/fuse.h."""

import errno
import logging
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from anonfs.events import VmEvent
from anonfs.units import Ino
from anonfs.vm import EventLog, Happening, Sight
from anonfsd import _event_streams
from anonfsd._engine_lock import EngineLock
from anonfsd._event_streams import EventStreams
from tests.vm.fakes import FakeInode

_OPEN, _READ, _RELEASE, _FLUSH, _INTERRUPT, _POLL, _GETATTR = 14, 15, 18, 25, 36, 40, 3
_NODE = 77
_SECONDS = 20
_POLLIN = select.POLLIN | select.POLLRDNORM


class FakeAudience:
    """User 0 is trusted, and user 13 sees nothing."""

    def is_trusted(self, uid: int) -> bool:
        return uid == 0

    def sight(self, uid: int, happening: Happening) -> Sight:
        del happening
        return Sight.NOTHING if uid == 13 else Sight.ALL


class Device:
    """The kernel's end."""

    def __init__(self) -> None:
        self.kernel, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(_SECONDS)
        self.lock = EngineLock()
        self.log = EventLog(lambda inode: f"file-{inode.ino}")
        audience: Any = FakeAudience()
        self.streams = EventStreams(self.theirs.fileno(), _NODE, self.lock, self.log, audience)
        self._unique = 0

    def ask(self, opcode: int, body: bytes, uid: int = 0) -> int:
        """Make a request; returns its number."""
        self._unique += 2
        assert self.streams.serves(opcode, _NODE)
        self.streams.take(opcode, self._unique, uid, memoryview(body))
        return self._unique

    def message(self) -> tuple[int, int, bytes]:
        """What comes next: the request it answers, its errno (or code), and the rest."""
        message = self.kernel.recv(1 << 20)
        size, error, unique = struct.unpack_from("=IiQ", message)
        assert size == len(message)
        return unique, -error, message[16:]

    def call(self, opcode: int, body: bytes, uid: int = 0) -> tuple[int, bytes]:
        unique = self.ask(opcode, body, uid)
        answered, error, rest = self.message()
        assert answered == unique
        return error, rest

    def open(self, uid: int = 0, flags: int = os.O_RDONLY) -> int:
        error, rest = self.call(_OPEN, struct.pack("=II", flags, 0), uid)
        assert error == 0
        handle, found, _ = struct.unpack("=QII", rest)
        assert found == 1 | 4 | 16, "FOPEN_DIRECT_IO, FOPEN_NONSEEKABLE, FOPEN_STREAM"
        return int(handle)

    def happen(self, pid: int) -> None:
        with self.lock:
            self.log.note(Happening("open", FakeInode(Ino(7)), 1.0, 0, pid))
        self.streams._deliver()

    def poll(self, handle: int, *, schedule: bool = True) -> int:
        error, rest = self.call(_POLL, struct.pack("=QQII", handle, 1000 + handle, schedule, 1))
        assert error == 0
        events, _ = struct.unpack("=II", rest)
        return int(events)

    def check_silent(self) -> None:
        """Nothing is on its way."""
        self.streams._deliver()
        self.kernel.setblocking(False)
        with pytest.raises(BlockingIOError):
            self.kernel.recv(1)
        self.kernel.settimeout(_SECONDS)


def read_body(handle: int, size: int = 1 << 16, flags: int = 0) -> bytes:
    return struct.pack("=QQIIQII", handle, 0, size, 0, 0, flags, 0)


def release_body(handle: int) -> bytes:
    return struct.pack("=QIIQ", handle, 0, 0, 0)


def pids(data: bytes) -> list[int | None]:
    return [VmEvent.parse(line).pid for line in data.decode().splitlines()]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setattr(_event_streams, "_REST_SECONDS", 0.0)
    made = Device()
    yield made
    with made.lock:
        made.log.check_invariants()
        made.streams.check_invariants()
    made.kernel.close()
    made.theirs.close()


def test_only_what_is_read_is_served(device: Device) -> None:
    assert not device.streams.serves(_GETATTR, _NODE)
    assert not device.streams.serves(_READ, _NODE + 1)
    assert device.streams.serves(_INTERRUPT, 0)


def test_what_there_is_is_read_at_once_and_once(device: Device) -> None:
    handle = device.open()
    device.happen(10)
    device.happen(11)
    error, data = device.call(_READ, read_body(handle))
    assert (error, pids(data)) == (0, [10, 11])
    assert device.call(_READ, read_body(handle, flags=os.O_NONBLOCK)) == (errno.EAGAIN, b"")
    assert device.call(_READ, read_body(handle, flags=os.O_DIRECT)) == (errno.EAGAIN, b"")
    device.happen(12)
    first = device.call(_READ, read_body(handle, 10))[1]
    assert pids(first + device.call(_READ, read_body(handle))[1]) == [12]


def test_a_read_waits_for_an_event(device: Device) -> None:
    handle, other = device.open(), device.open(uid=13)
    reads = [device.ask(_READ, read_body(handle)) for _ in range(2)]
    device.ask(_READ, read_body(other))
    device.check_silent()
    device.happen(10)
    unique, error, data = device.message()
    assert (unique, error, pids(data)) == (reads[0], 0, [10])
    device.happen(11)
    assert device.message()[0] == reads[1]
    device.check_silent()


def test_a_signal_ends_the_wait(device: Device) -> None:
    handle = device.open()
    waiting = device.ask(_READ, read_body(handle))
    device.ask(_INTERRUPT, struct.pack("=Q", waiting))
    assert device.message() == (waiting, errno.EINTR, b"")
    device.ask(_INTERRUPT, struct.pack("=Q", waiting))
    device.happen(10)
    device.check_silent()
    assert pids(device.call(_READ, read_body(handle))[1]) == [10], "nothing was lost by it"


def test_poll(device: Device) -> None:
    handle = device.open()
    assert device.poll(handle, schedule=False) == 0
    device.happen(10)
    device.check_silent()
    assert device.poll(handle) == _POLLIN
    device.happen(11)
    assert device.message() == (0, -1, struct.pack("=Q", 1000 + handle)), "for EPOLLET"
    assert pids(device.call(_READ, read_body(handle))[1]) == [10, 11]
    assert device.poll(handle) == 0
    device.happen(12)
    assert device.message() == (0, -1, struct.pack("=Q", 1000 + handle)), "FUSE_NOTIFY_POLL"
    device.happen(13)
    device.check_silent()


def test_the_past_is_for_those_who_are_trusted(device: Device) -> None:
    device.happen(10)
    trusted, other = device.open(), device.open(uid=1000)
    device.happen(11)
    assert pids(device.call(_READ, read_body(trusted))[1]) == [10, 11]
    assert pids(device.call(_READ, read_body(other))[1]) == [11]


def test_what_is_released_is_gone(device: Device) -> None:
    handle = device.open()
    assert device.call(_FLUSH, struct.pack("=QIIQ", handle, 0, 0, 0)) == (0, b"")
    assert device.log.wanted
    assert device.streams.any_open
    assert device.call(_RELEASE, release_body(handle)) == (0, b"")
    for opcode, body in ((_READ, read_body(handle)), (_RELEASE, release_body(handle))):
        assert device.call(opcode, body) == (errno.EBADF, b"")
    assert device.call(_POLL, struct.pack("=QQII", handle, 1, 1, 1)) == (errno.EBADF, b"")
    assert not device.streams.any_open


@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC])
def test_it_is_read_only(device: Device, flags: int) -> None:
    assert device.call(_OPEN, struct.pack("=II", flags, 0)) == (errno.EPERM, b"")


def test_a_user_has_a_share_of_streams(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    body = struct.pack("=II", os.O_RDONLY, 0)
    with caplog.at_level(logging.WARNING):
        handles = [device.open(uid=1000) for _ in range(64)]
        for _ in range(5):
            assert device.call(_OPEN, body, 1000) == (errno.EMFILE, b"")
    assert len(caplog.records) == 1, "it is told once"
    device.open(uid=1001)
    device.call(_RELEASE, release_body(handles[0]))
    device.open(uid=1000)
    for uid in range(2000, 2007):
        for _ in range(64 if uid < 2006 else 63):
            device.open(uid=uid)
    assert device.call(_OPEN, body, 3000) == (errno.ENFILE, b"")


def test_the_end_comes_after_what_is_left(device: Device) -> None:
    waiting, full, later = device.open(), device.open(uid=13), device.open()
    unique = device.ask(_READ, read_body(waiting))
    assert device.poll(full) == 0
    with device.lock:
        device.streams.end()
    device.streams._deliver()
    assert {device.message(), device.message()} == {
        (unique, 0, b""),
        (0, -1, struct.pack("=Q", 1000 + full)),
    }
    device.happen(10)
    assert device.poll(later) == _POLLIN | select.POLLHUP
    assert pids(device.call(_READ, read_body(later))[1]) == [10]
    assert device.call(_READ, read_body(later)) == (0, b"")
    device.call(_RELEASE, release_body(later))
    fresh = device.open(uid=5)
    device.ask(_READ, read_body(fresh))
    device.check_silent()


def test_who_was_served_waits_for_more_at_a_time(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_event_streams, "_REST_SECONDS", 1000.0)
    handle = device.open()
    device.happen(10)
    assert device.poll(handle) == _POLLIN
    assert pids(device.call(_READ, read_body(handle))[1]) == [10]
    device.happen(11)
    assert device.message() == (0, -1, struct.pack("=Q", 1000 + handle))
    assert device.poll(handle, schedule=False) == _POLLIN, "nobody waits"
    unique = device.ask(_READ, read_body(handle))
    device.happen(12)
    answered, _, data = device.message()
    assert (answered, pids(data)) == (unique, [11, 12])
    device.happen(13)
    assert device.poll(handle) == 0
    device.streams._deliver()
    assert device.message() == (0, -1, struct.pack("=Q", 1000 + handle))
    assert pids(device.call(_READ, read_body(handle, flags=os.O_NONBLOCK))[1]) == [13]
