"""Locking over fakes: what it waits for, and what is left where it fails."""

import errno
from collections.abc import Iterator

import pytest

from anonfs.errors import AnonfsError
from anonfs.units import PAGE_SIZE
from anonfs.vfs import Inode
from anonfsd._locking import Locking
from tests.daemon.paged import Paged, in_thread
from tests.mm.engine import FaultyStore, page, states

FRAMES = 512
LOCKABLE = 64


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(2048)


@pytest.fixture
def paged(store: FaultyStore) -> Iterator[Paged]:
    paged = Paged(FRAMES, store=store)
    yield paged
    paged.check()
    assert paged.failing.failures == 0
    paged.close()


def on_swap(paged: Paged, pages: int) -> Inode:
    """A file of so many pages on swap, beside which all frames are taken."""
    inode, other = paged.file(b"f"), paged.file(b"other")
    paged.write(inode.ino, 0, page("k") * pages)
    paged.reclaim.swap_out(inode, 0, pages - 1)
    for first in range(0, FRAMES, 256):
        paged.write(other.ino, first * PAGE_SIZE, page("o") * 256)
    assert paged.memory.frames.free < pages == inode.allocated
    return inode


def lock(paged: Paged, inode: Inode) -> None:
    locking = Locking(paged.filesystem, paged.lock, paged.reclaim, paged.paging.perform)
    in_thread(locking.lock, inode)()


def test_all_pages_come_in_and_others_go(paged: Paged) -> None:
    inode = on_swap(paged, LOCKABLE)
    lock(paged, inode)
    lock(paged, inode)
    assert inode.info is not None
    assert states(inode.info, LOCKABLE) == "c" * LOCKABLE
    paged.reclaim.swap_out(inode, 0, LOCKABLE - 1)
    assert paged.read(inode.ino, 0, PAGE_SIZE) == page("k")
    assert (inode.info.in_core, paged.memory.promises.lockable) == (LOCKABLE, 0)


@pytest.mark.parametrize("pages", [1, LOCKABLE])
def test_a_page_that_cannot_come_in_leaves_the_file_unlocked(
    paged: Paged, store: FaultyStore, pages: int, caplog: pytest.LogCaptureFixture
) -> None:
    inode = on_swap(paged, pages)
    store.fail_reads = True
    with pytest.raises(AnonfsError) as caught:
        lock(paged, inode)
    assert (caught.value.errno, inode.locked) == (errno.EIO, 0)
    assert "unreadable on swap" in caplog.text
    assert paged.memory.promises.lockable == LOCKABLE


def test_too_much_is_refused_before_anything_comes_in(paged: Paged, store: FaultyStore) -> None:
    inode = on_swap(paged, LOCKABLE + 1)
    store.fail_reads = True
    with pytest.raises(AnonfsError) as caught:
        lock(paged, inode)
    assert (caught.value.errno, inode.locked) == (errno.ENOMEM, 0)
