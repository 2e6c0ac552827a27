"""Sizes of files: grown by FALLOCATE, and cut within pages that are on swap, or being written."""

import errno
from collections.abc import Iterator

import pytest

from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, Inode
from tests.daemon.paged import FakeReceiver, GatedStore, Paged, bytes_of, gated, in_thread
from tests.mm.engine import page

_KEEP_SIZE, _COLLAPSE_RANGE = 1, 8  # FALLOC_FL_*


@pytest.fixture
def store() -> GatedStore:
    return GatedStore(4096)


@pytest.fixture
def paged(store: GatedStore) -> Iterator[Paged]:
    with gated(store) as paged:
        yield paged


@pytest.fixture
def file(paged: Paged) -> Inode:
    return paged.file(pages=1)


def test_an_allocation_makes_a_file_larger_and_never_smaller(paged: Paged, file: Inode) -> None:
    paged.write(file.ino, 0, page("a"))
    thread = FakeReceiver()

    def allocate(ino: int, end: int, mode: int = 0) -> int:
        return paged.sizing.allocate(ino, 1, end - 1, mode, thread)

    assert allocate(file.ino, 2 * PAGE_SIZE + 1) == 0
    assert (file.size, file.promised) == (2 * PAGE_SIZE + 1, 3)
    assert allocate(file.ino, PAGE_SIZE) == 0
    assert allocate(file.ino, PAGE_SIZE, _KEEP_SIZE) == 0
    assert len(thread.replies) == 3
    assert file.size == 2 * PAGE_SIZE + 1
    assert allocate(file.ino, 1 << 50) == errno.ENOSPC
    assert allocate(file.ino, 9 * PAGE_SIZE, _KEEP_SIZE) == errno.EOPNOTSUPP
    assert allocate(file.ino, PAGE_SIZE, _COLLAPSE_RANGE) == errno.EOPNOTSUPP
    assert allocate(ROOT, 1) == errno.EINVAL
    assert len(thread.replies) == 3
    assert file.size == 2 * PAGE_SIZE + 1
    assert bytes_of(paged, file, 0, PAGE_SIZE) == page("a")


def test_a_cut_of_a_page_on_swap_needs_no_frame(paged: Paged, file: Inode) -> None:
    paged.write(file.ino, 0, page("a"))
    paged.reclaim.swap_out(file, 0, 0)
    paged.write(file.ino, PAGE_SIZE, page("b") * 8)
    assert paged.memory.frames.free == 0
    with paged.lock:
        assert not paged.sizing.truncate(file, 10), "it has to wait"
    paged.check()
    paged.sizing.truncate_waiting(file, 10)
    assert file.size == 10
    assert bytes_of(paged, file, 0, PAGE_SIZE) == page("a")[:10] + bytes(PAGE_SIZE - 10)


def test_a_cut_of_a_page_in_core_does_not_wait(paged: Paged, file: Inode) -> None:
    paged.write(file.ino, 0, page("a") * 2)
    with paged.lock:
        assert paged.sizing.truncate(file, PAGE_SIZE + 1)
        assert paged.sizing.truncate(file, 1)
        assert paged.sizing.truncate(file, 5 * PAGE_SIZE)
    assert bytes_of(paged, file, 0, PAGE_SIZE) == b"a" + bytes(PAGE_SIZE - 1)
    assert paged.memory.loaded.pages == 1


def test_a_page_written_while_it_is_cut(paged: Paged, file: Inode, store: GatedStore) -> None:
    paged.write(file.ino, 0, page("a"))
    paged.reclaim.swap_out(file, 0, 0)
    store.shut()
    cut = in_thread(paged.sizing.truncate_waiting, file, 10)
    store.entered()
    paged.write(file.ino, 0, page("b"))
    store.gate.set()
    cut()
    assert bytes_of(paged, file, 0, 12) == b"b" * 10 + bytes(2)
