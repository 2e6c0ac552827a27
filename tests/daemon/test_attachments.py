"""Attachments of real processes to a file of a tmpfs, without a mount: what a slow daemon does."""

import ctypes
import errno
import mmap
import os
import select
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from anonfs.client import new_userfaultfd
from anonfs.units import PAGE_SIZE, Ino
from anonfs.vm import AddressSpaces, SharedOperations, ShareRing
from anonfsd._attachments import Attachments
from anonfsd._engine_lock import EngineLock
from anonfsd._userfaultfd import prepare
from anonfsd.procfs import scan
from tests.lifecycle.areas import areas_in_proc
from tests.posix.children import SECONDS, Child, eventually, hear, say
from tests.posix.memory import Mapping
from tests.posix.sharing import fork_sleeping
from tests.vm.fakes import FakeInode

_PAGES = 4
_PATIENCE = 0.2

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has forks reported")


class Scene:
    """A file in memory, those who map it, and what is known of them."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("attached")
        os.ftruncate(self.fd, _PAGES * PAGE_SIZE)
        status = os.fstat(self.fd)
        self.inode = FakeInode(Ino(status.st_ino))
        self.lock = EngineLock()
        self.spaces = AddressSpaces(
            SharedOperations(), lambda ino: self.inode if ino == self.inode.ino else None
        )
        self.failing = SimpleNamespace(failed=False, fail=lambda: None)
        self.device = os.major(status.st_dev), os.minor(status.st_dev)
        failing: Any = self.failing
        self.observed = 0
        self.attachments = Attachments(
            self.lock, self.spaces, self.device, failing, self._note_observed, self._close
        )
        self.attachments.start()
        self.ours, self.theirs = socket.socketpair()
        self.attached = -1

    def _note_observed(self) -> None:
        self.observed += 1

    @staticmethod
    def _close(descriptor: int, _uid: int) -> None:
        os.close(descriptor)

    def areas(self) -> list[tuple[int | None, bool]]:
        """Who has areas, and whether they are attached."""
        with self.lock:
            return [(area.pid, area.attached) for area in ShareRing(self.inode)]

    def attach(self, child: Child) -> None:
        """Attach ``child``, which runs one of the programs below, as its daemon would."""
        child.said()
        _, (descriptor,), _, _ = socket.recv_fds(self.ours, 1, 1)
        self.attachments.attach(child.pid, 0, descriptor)
        self.attached = descriptor
        assert set(self.areas()) == {(child.pid, True)}

    def map_and_fork(self, *, keeps_descriptor: bool = False) -> None:
        """In a child: map the file, hand a userfaultfd over, and fork as often as it is told."""
        mapping = mmap.mmap(self.fd, _PAGES * PAGE_SIZE)
        say(ctypes.addressof(ctypes.c_char.from_buffer(mapping)))
        descriptor = new_userfaultfd()
        socket.send_fds(self.theirs, [b"f"], [descriptor])
        if not keeps_descriptor:
            os.close(descriptor)
        while True:
            hear()
            begin = monotonic()
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            say((pid, monotonic() - begin))
            os.waitpid(pid, 0)

    def map_twice_fork_and_unmap(self) -> None:
        """In a child: fork when it is told, and unmap one of two mappings when it is told again."""
        mappings = [Mapping(self.fd, PAGE_SIZE) for _ in range(2)]
        say(None)
        descriptor = new_userfaultfd()
        socket.send_fds(self.theirs, [b"f"], [descriptor])
        os.close(descriptor)
        for act in (lambda: say(fork_sleeping()), mappings[0].unmap):
            hear()
            threading.Thread(target=act).start()
        hear()

    def is_reported(self) -> bool:
        """Whether what somebody did waits to be read."""
        return bool(select.select([self.attached], [], [], 0)[0])

    def areas_in_proc(self, pid: int) -> int:
        """How many areas the process has in truth."""
        return len(areas_in_proc(self.fd, [pid]))

    def close(self) -> None:
        for end in (self.ours, self.theirs):
            end.close()
        os.close(self.fd)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr("anonfsd._attachments.log.filters", [])
    scene = Scene()
    yield scene
    assert not scene.failing.failed
    with scene.lock:
        scene.spaces.check_invariants()
    scene.close()


def test_a_fork_and_the_ends_of_both(scene: Scene) -> None:
    with Child(scene.map_and_fork) as child:
        scene.attach(child)
        child.tell()
        child.said()
        eventually(lambda: scene.areas() == [(child.pid, True)], "the child's child has ended")
    eventually(lambda: not scene.areas(), "the exit is seen")


@pytest.mark.parametrize("keeps_descriptor", [False, True])
def test_a_fork_does_not_wait_for_a_daemon_that_is_too_slow(
    scene: Scene,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    keeps_descriptor: bool,
) -> None:
    program = partial(scene.map_and_fork, keeps_descriptor=keeps_descriptor)
    with Child(program) as child:
        scene.attach(child)
        monkeypatch.setattr("anonfsd._attachments._PATIENCE", _PATIENCE)
        with scene.lock:
            child.tell()
            _, seconds = child.said()
            assert seconds > _PATIENCE / 2
            # Who waited for the daemon from here on would say nothing in time.
            monkeypatch.setattr("anonfsd._attachments._PATIENCE", 10 * SECONDS)
            child.tell()
            child.said()
        eventually(lambda: scene.areas() == [(child.pid, False)], "the area is observed now")
        assert scene.observed
        assert "too slow to read what 1 processes report: they are observed" in caplog.text
        with scene.lock:
            child.tell()
            child.said()


@pytest.mark.parametrize("complete", [True, False])
def test_a_look_does_not_overtake_a_fork(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, complete: bool
) -> None:
    monkeypatch.setattr("anonfsd._attachments._PATIENCE", SECONDS)
    with Child(scene.map_twice_fork_and_unmap) as child:
        scene.attach(child)
        with scene.lock:  # nobody reads what is reported
            since = scene.spaces.moment
            child.tell()
            eventually(scene.is_reported, "the fork is reported")
            child.tell()
            eventually(lambda: scene.areas_in_proc(child.pid) == 1, "one mapping is gone")
            look = scan(scene.device, [child.pid])
            scene.spaces.update(look, complete=complete, since=since)
        forked = child.said()
        try:
            assert scene.areas_in_proc(forked) == 2
            there = Counter({(child.pid, True): 1, (forked, True): 2})
            eventually(lambda: Counter(scene.areas()) == there, "both have what they have")
        finally:
            os.kill(forked, signal.SIGKILL)


def test_one_user_can_have_so_many(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.attachments, "_limit", 1)
    with Child(scene.map_and_fork) as child:
        scene.attach(child)
        with Child(scene.map_and_fork) as other:
            other.said()
            _, (descriptor,), _, _ = socket.recv_fds(scene.ours, 1, 1)
            with pytest.raises(OSError, match="user 0 has 1 attachments"):
                scene.attachments.attach(other.pid, 0, descriptor)
        child.tell()
        pid, _ = child.said()
        assert pid not in dict(scene.areas()), "a child too many is left to looks"


def test_a_second_descriptor_is_refused_while_the_first_is_attached(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int | None] = []

    def attach_meanwhile(descriptor: int) -> None:
        second = os.dup(descriptor)
        with pytest.raises(OSError, match="is being attached") as raised:
            scene.attachments.attach(child.pid, 0, second)
        refused.append(raised.value.errno)
        prepare(descriptor)

    monkeypatch.setattr("anonfsd._attachments.prepare", attach_meanwhile)
    with Child(scene.map_and_fork) as child:
        scene.attach(child)
    assert refused == [errno.EBUSY]
