"""Copies of files: made whole or not at all, promised their pages, and known to their parents."""

import errno
import stat
from collections.abc import Iterator
from contextlib import closing

import pytest

from anonfs.errors import AnonfsError
from anonfs.limits import Limits
from anonfs.mm import Image, Memory, sync
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode, clone, clone_into

FILE = NewInode(stat.S_IFREG | 0o600, 1000, 100)
_CAPACITY = 40


@pytest.fixture(params=[False, True], ids=["reserve", "overcommit"])
def fs(request: pytest.FixtureRequest) -> Iterator[FileSystem]:
    with closing(Image(64)) as image:
        memory = Memory(image, SwapArea(MemoryStore(_CAPACITY + 256 - 64)))
        root = NewInode(stat.S_IFDIR | 0o755, 0, 0)
        made = FileSystem(image, memory, root, overcommit=request.param)
        yield made
        made.check_invariants()
        memory.check_invariants()


def source(fs: FileSystem, pages: int = 3) -> Inode:
    """A file of so many pages and a byte, all but the last of which exist."""
    inode = fs.make(ROOT, b"source", FILE)
    assert inode.info is not None
    fs.truncate(inode, pages * PAGE_SIZE + 1)
    with fs.promising.writing(inode, 0, pages * PAGE_SIZE):
        sync.write(fs.memory, inode.info, 0, b"s" * pages * PAGE_SIZE)
    return inode


def left_over(fs: FileSystem) -> tuple[int, ...]:
    memory = fs.memory
    return len(fs.inodes), memory.promises.made, memory.leaves.live, memory.frames.shares.total


@pytest.mark.parametrize("lazy", [False, True])
def test_a_copy_has_size_and_pages_and_is_the_callers(fs: FileSystem, lazy: bool) -> None:
    parent = source(fs)
    promised = fs.memory.promises.made
    copy = clone(fs, parent, ROOT, b"copy", FILE, lazy=lazy)
    assert fs.lookup(ROOT, b"copy") is copy
    assert (copy.size, copy.allocated, copy.parent) == (parent.size, 3, parent.ino)
    assert (copy.uid, copy.gid, copy.mode) == (1000, 100, stat.S_IFREG | 0o600)
    assert fs.memory.promises.made == promised + copy.promised == 2 * parent.promised
    assert copy.info is not None
    assert sync.read(fs.memory, copy.info, 0, 3 * PAGE_SIZE) == b"s" * 3 * PAGE_SIZE


def test_what_cannot_be_made_leaves_nothing(fs: FileSystem) -> None:
    deleted: list[Inode] = []
    fs.on_delete = deleted.append
    parent = source(fs, _CAPACITY // 2 + 1)
    before = left_over(fs)
    fifo = fs.make(ROOT, b"fifo", NewInode(stat.S_IFIFO | 0o600, 0, 0))
    for inode, above, name, number in (
        (parent, ROOT, b"copy", errno.ENOSPC),
        (parent, ROOT, b"source", errno.EEXIST),
        (parent, ROOT, b"n" * 256, errno.ENAMETOOLONG),
        (parent, ROOT, b"a/b", errno.EINVAL),
        (parent, parent.ino, b"copy", errno.ENOTDIR),
        (fifo, ROOT, b"copy", errno.EINVAL),
        (fs.inode(ROOT), ROOT, b"copy", errno.EINVAL),
    ):
        with pytest.raises(AnonfsError) as refused:
            clone(fs, inode, above, name, FILE, lazy=False)
        assert refused.value.errno == number
    fs.unlink(ROOT, b"fifo")
    assert left_over(fs) == before
    assert not deleted


def test_a_parent_is_one_as_long_as_it_is_there(fs: FileSystem) -> None:
    first = source(fs)
    second = clone(fs, first, ROOT, b"second", FILE, lazy=True)
    third = clone(fs, second, ROOT, b"third", FILE, lazy=False)
    assert (second.parent, third.parent) == (first.ino, second.ino)
    fs.unlink(ROOT, b"second")
    assert (first.copies, third.parent) == (set(), 0)
    fourth = clone(fs, first, ROOT, b"fourth", FILE, lazy=True)
    fs.unlink(ROOT, b"source")
    assert fourth.parent == 0
    assert fourth.info is not None
    assert bytes(sync.read(fs.memory, fourth.info, 0, 1)) == b"s"


def test_a_copy_counts_for_its_owner() -> None:
    limits = Limits(per_user=4 * PAGE_SIZE, files_per_user=3)
    with closing(Image(64)) as image:
        memory = Memory(image, SwapArea(MemoryStore(512)))
        root = NewInode(stat.S_IFDIR | 0o755, 0, 0)
        fs = FileSystem(image, memory, root, limits=limits)
        parent = source(fs, 1)
        copy = clone(fs, parent, ROOT, b"copy", FILE, lazy=True)
        with pytest.raises(AnonfsError) as refused:
            clone(fs, parent, ROOT, b"another", FILE, lazy=True)
        assert refused.value.errno == errno.EDQUOT
        fs.check_invariants()
        fs.truncate(copy, PAGE_SIZE)
        fs.truncate(parent, PAGE_SIZE)
        clone(fs, copy, ROOT, b"another", FILE, lazy=False)
        fs.check_invariants()
        memory.check_invariants()


def nameless(fs: FileSystem) -> Inode:
    inode = fs.make_nameless(ROOT, FILE)
    fs.open(inode)
    return inode


@pytest.mark.parametrize("lazy", [False, True])
def test_a_copy_without_a_name_goes_with_who_has_it_open(fs: FileSystem, lazy: bool) -> None:
    parent = source(fs)
    before = left_over(fs)
    parent.is_private = 1
    copy = nameless(fs)
    assert copy.names == 0
    clone_into(fs, parent, copy, lazy=lazy)
    assert (copy.size, copy.allocated, copy.parent) == (parent.size, 3, parent.ino)
    assert (copy.promised, copy.is_private) == (parent.promised, 1)
    fs.check_invariants()
    fs.release(copy)
    assert left_over(fs) == before
    assert parent.copies == set()


def test_what_a_file_cannot_become_it_is_not(fs: FileSystem) -> None:
    parent = source(fs, _CAPACITY // 2 + 1)
    empty, other = nameless(fs), nameless(fs)
    fs.truncate(other, 1)
    before = left_over(fs)
    for inode, into, number in (
        (parent, empty, errno.ENOSPC),
        (empty, empty, errno.EINVAL),
        (empty, other, errno.EINVAL),
        (parent, parent, errno.EINVAL),
        (parent, fs.inode(ROOT), errno.EINVAL),
        (fs.inode(ROOT), empty, errno.EINVAL),
    ):
        with pytest.raises(AnonfsError) as refused:
            clone_into(fs, inode, into, lazy=True)
        assert refused.value.errno == number
        fs.check_invariants()
    assert (empty.size, empty.allocated, empty.parent, empty.promised) == (0, 0, 0, 0)
    assert left_over(fs) == before
    fs.release(empty)
    fs.release(other)


def test_a_frozen_copy_is_promised_what_it_has_and_is_never_written(fs: FileSystem) -> None:
    """So there is room for a copy of a file that takes most of it, and of what it shares."""
    parent = source(fs)
    fs.truncate(parent, (_CAPACITY - 10) * PAGE_SIZE)
    before = left_over(fs)
    copy = nameless(fs)
    copy.is_frozen = 1
    clone_into(fs, parent, copy, lazy=True)
    assert (copy.size, copy.promised, copy.charged) == (parent.size, 3, 3)
    for call in (fs.truncate, fs.check_size):
        with pytest.raises(AnonfsError) as refused:
            call(copy, 0)
        assert refused.value.errno == errno.EPERM
    fs.promising.hand_out(copy, 0, 100)
    fs.check_invariants()
    fs.release(copy)
    assert left_over(fs) == before
