"""Whoever holds the lock of an inode holds it from the SETXATTR to its answer, and no longer."""

import errno
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from anonfs.errors import AnonfsError
from anonfsd._inode_lock import InodeLock

_SECONDS = 10.0


class FakeKernel:
    """Files by inode number whose setxattr(2) waits until the SETXATTR was answered.

    One whose number is ``unknown`` cannot be opened.
    """

    def __init__(self) -> None:
        self.answers, self.device = os.pipe()
        self.unknown = -1
        self.entered: list[int] = []
        self.left = threading.Semaphore(0)
        self.lock: InodeLock | None = None
        self._unique = 100

    @contextmanager
    def open(self, ino: int) -> Iterator[int]:
        if ino == self.unknown:
            raise AnonfsError(errno.ESTALE)
        yield ino

    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        assert (name, value) == ("user.anonfs.lock", b"")
        self.entered.append(fd)
        self._unique += 2
        assert self.lock is not None
        self.lock.granted(self._unique)
        assert struct.unpack("=IiQ", os.read(self.answers, 16)) == (16, 0, self._unique)
        self.left.release()

    def close(self) -> None:
        os.close(self.answers)
        os.close(self.device)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKernel]:
    kernel = FakeKernel()
    files: Any = kernel
    kernel.lock = InodeLock(kernel.device, files)
    monkeypatch.setattr("anonfsd._inode_lock.os.setxattr", kernel.setxattr)
    kernel.lock.start()
    yield kernel
    kernel.close()


def test_it_is_held_until_the_end(kernel: FakeKernel) -> None:
    assert kernel.lock is not None
    for ino in (7, 8):
        with kernel.lock.held(ino):
            assert kernel.entered[-1] == ino
            assert not kernel.left.acquire(blocking=False), "it is held"
        assert kernel.left.acquire(timeout=_SECONDS), "it is let go"


def test_it_is_let_go_when_what_was_done_with_it_fails(kernel: FakeKernel) -> None:
    assert kernel.lock is not None
    with pytest.raises(OSError, match="disk"), kernel.lock.held(7):
        raise OSError("disk")
    assert kernel.left.acquire(timeout=_SECONDS)


def test_an_inode_that_nobody_can_open_has_none(kernel: FakeKernel) -> None:
    assert kernel.lock is not None
    kernel.unknown = 7
    with kernel.lock.held(7):
        assert kernel.entered == []
    with kernel.lock.held(8):
        assert kernel.entered == [8], "and the next one is not confused by it"
    assert kernel.left.acquire(timeout=_SECONDS)


def test_a_connection_that_is_gone(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer reaches nobody; the kernel ends the call by itself."""
    assert kernel.lock is not None
    lock = kernel.lock
    monkeypatch.setattr("anonfsd._inode_lock.os.setxattr", lambda *_: lock.granted(4))
    monkeypatch.setattr("anonfsd._inode_lock.os.write", _gone)
    with lock.held(7):
        pass


def _gone(_fd: int, _data: bytes) -> int:
    raise OSError(errno.ENODEV, "gone")
