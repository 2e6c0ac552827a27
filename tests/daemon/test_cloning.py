"""Clones of what others are storing to: of one moment, whatever the kernel does meanwhile."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import sync
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, NewInode
from anonfsd import _stopping
from anonfsd._cloning import Cloner, Cloning, Job
from anonfsd._descriptors import Descriptor
from anonfsd._stopping import Stopping
from tests.daemon.paged import FakeInodeLock, FakeReceiver, Paged

_SECONDS = 10.0
_DEVICE = 0, 42
_US = Cloner(1000, 100, 1)


class Cloned:
    """A file of 1024 pages of which others load, and perhaps store to, a page of each half."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paged = Paged(slots=4096)
        self.source = self.paged.file(pages=1024)
        self.is_stored_to = True
        lock, reclaim = self.paged.lock, self.paged.reclaim
        unloading: Any = self.paged.unloading
        inode_lock: Any = FakeInodeLock()
        self.cloning = Cloning(
            self.paged.filesystem,
            lock,
            Stopping(lock, self.paged.paging, reclaim, unloading),
            reclaim,
            unloading,
            inode_lock,
            _DEVICE,
            lambda _: self.is_stored_to,
        )
        found = Descriptor(os.O_RDONLY, _DEVICE, self.source.ino)
        monkeypatch.setattr("anonfsd._cloning.descriptor_of", lambda *_: found)
        for page in (0, 600):
            self.read(page)

    def read(self, page: int) -> FakeReceiver:
        """A READ of one page, answered or not."""
        receiver = FakeReceiver()
        ino, paging = self.source.ino, self.paged.paging
        assert paging.read(ino, page * PAGE_SIZE, PAGE_SIZE, receiver, own=False) == 0
        return receiver

    def store(self, page: int, letter: str) -> None:
        """A store to a page that is loaded, of which nobody is told."""
        data = (letter * PAGE_SIZE).encode()
        self.paged.unloading.dirty[self.source.ino, page] = data

    def clone(self, name: bytes = b"copy", before: Callable[..., None] | None = None) -> str:
        """The first letters of the two pages in a clone.

        With ``before``, which is called at each drop, stores to a third one never end.
        """
        if before is not None:
            self.paged.unloading.before = before
            self.paged.unloading.after = lambda _: self.store(599, "-")
            self.store(599, "-")
        root = self.paged.filesystem.inode(ROOT)
        self.cloning._clone(Job(root, name, _US), 3)
        copy = self.paged.filesystem.lookup(ROOT, name)
        assert copy.info is not None
        memory = self.paged.memory
        return "".join(
            bytes(sync.read(memory, copy.info, page * PAGE_SIZE, 1)).decode() for page in (0, 600)
        )

    @property
    def dropped(self) -> list[tuple[int, int]]:
        """The runs that were dropped."""
        return [run for _, runs in self.paged.unloading.dropped for run in runs]


@pytest.fixture(params=[(6, 15), (6, 16)], ids=["copies", "no copies"])
def cloned(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Cloned:
    monkeypatch.setattr("anonfsd._stopping._LINUX", request.param)
    return Cloned(monkeypatch)


def test_what_nobody_has_open_to_write_is_copied_as_it_is(cloned: Cloned) -> None:
    """Nothing of it can be dirty, so the kernel is asked for nothing: it would take a page back."""
    cloned.is_stored_to = False
    cloned.store(0, "a")
    assert cloned.clone() == "\0\0"
    assert not cloned.dropped


def test_between_stores_nobody_is_stopped(cloned: Cloned) -> None:
    """A copy is made when a write-back has found nothing to write, where that says something."""
    unloading = cloned.paged.unloading
    stores = [(600, "b")]
    cloned.store(0, "a")
    unloading.after = lambda _: cloned.store(*stores.pop(0)) if stores else None
    assert cloned.clone() == "ab"
    assert bool(cloned.dropped) is not _stopping.writes_are_told()
    unloading.is_root = False
    cloned.read(0)
    cloned.clone(b"other")
    assert cloned.dropped


def test_whoever_says_that_nobody_stores_has_nobody_stopped(cloned: Cloned) -> None:
    fs = cloned.paged.filesystem
    copy = fs.make_nameless(ROOT, NewInode(stat.S_IFREG | 0o600, 1000, 100))
    fs.open(copy)
    cloned.cloning._clone(Job(copy, None, _US, quiet=True), 3)
    assert copy.info is not None
    assert (copy.size, copy.parent) == (cloned.source.size, cloned.source.ino)
    assert not cloned.dropped


def test_what_is_to_be_a_copy_is_no_source(cloned: Cloned) -> None:
    """Whoever waits to have it made one holds its lock."""
    cloning = cloned.cloning
    with cloning._expecting(cloned.source), pytest.raises(AnonfsError) as refused:
        cloned.clone()
    assert refused.value.errno == errno.EBUSY

    def before(_ino: int, _runs: list[tuple[int, int]]) -> None:
        with pytest.raises(AnonfsError) as refused, cloning._expecting(cloned.source):
            pass
        assert refused.value.errno == errno.EBUSY

    cloned.clone(before=before)
    assert cloned.dropped


def test_stores_are_in_a_copy_in_their_order(
    cloned: Cloned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored between two drops is in it if the page was not dropped yet, or waits."""
    monkeypatch.setattr("anonfsd._standstill._LONGEST", 512)
    cloned.store(0, "a")
    waiting: list[FakeReceiver] = []

    def before(_ino: int, runs: list[tuple[int, int]]) -> None:
        if runs == [(0, 512)]:
            cloned.store(0, "b")
            cloned.store(600, "b")
        else:
            waiting.append(cloned.read(0))
            cloned.store(600, "c")

    assert cloned.clone(before=before) == "bc"
    assert cloned.dropped == [(0, 512), (512, 512)]
    assert [receiver.replies for receiver in waiting] == [[b"b" * PAGE_SIZE]]
    settled = cloned.paged.unloading.settled
    assert settled == ([cloned.source.ino] if _stopping._LINUX < (6, 16) else [])


def test_a_read_that_the_kernel_waits_for_is_answered_and_its_page_dropped_again(
    cloned: Cloned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonfsd._standstill._LONGEST", 512)
    cloned.store(0, "a")

    def before(_ino: int, runs: list[tuple[int, int]]) -> None:
        if runs == [(0, 512)]:
            receiver, answered = cloned.read(3), threading.Event()
            receiver.on_reply = answered.set
            assert answered.wait(_SECONDS)
            cloned.store(3, "x")

    assert cloned.clone(before=before) == "a\0"
    assert cloned.dropped == [(0, 512), (512, 512), (3, 1)]
    copy = cloned.paged.filesystem.lookup(ROOT, b"copy")
    assert copy.info is not None
    assert bytes(sync.read(cloned.paged.memory, copy.info, 3 * PAGE_SIZE, 1)) == b"x"


def test_whoever_waits_is_answered_when_a_clone_fails(cloned: Cloned) -> None:
    waiting: list[FakeReceiver] = []

    def before(_ino: int, _runs: list[tuple[int, int]]) -> None:
        waiting.append(cloned.read(1000))

    def fail(ino: int, runs: list[tuple[int, int]]) -> None:
        before(ino, runs)
        raise AnonfsError(errno.EIO, "a write-back")

    for name, hook, number in ((b"f", before, errno.EEXIST), (b"copy", fail, errno.EIO)):
        cloned.read(0)
        with pytest.raises(AnonfsError) as refused:
            cloned.clone(name, before=hook)
        assert refused.value.errno == number
    assert [receiver.replies for receiver in waiting] == [[bytes(PAGE_SIZE)]] * len(waiting)
    assert cloned.paged.paging.standstill.info is None
    assert len(cloned.paged.filesystem.inodes) == 2


def test_what_comes_back_as_fast_as_it_goes_is_given_up(
    cloned: Cloned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonfsd._stopping._MOST_SECONDS", 0.0)
    with pytest.raises(AnonfsError) as refused:
        cloned.clone(before=lambda *_: None)
    assert refused.value.errno == errno.EBUSY


def test_a_source_that_is_gone_meanwhile(cloned: Cloned) -> None:
    def before(_ino: int, _runs: list[tuple[int, int]]) -> None:
        with suppress(AnonfsError), cloned.paged.lock:
            cloned.paged.filesystem.unlink(ROOT, b"f")
            cloned.paged.unloading.dirty.clear()

    with pytest.raises(AnonfsError) as refused:
        cloned.clone(before=before)
    assert refused.value.errno == errno.ESTALE
