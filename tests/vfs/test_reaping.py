import errno
from collections.abc import Iterator

import pytest

from anonfs.errors import AnonfsError
from anonfs.inspection import NEVER, Reap
from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.vfs import ROOT, FileSystem, Inode, ListLink, NewInode

FILE, DIRECTORY = NewInode(0o100644, 0, 0), NewInode(0o040755, 0, 0)
LAST_AREA, LAST_ATTACH = Reap("last-area"), Reap("last-attach", 7)


@pytest.fixture
def fs() -> Iterator[FileSystem]:
    image = Image(4)
    filesystem = FileSystem(image, Memory(image, SwapArea(MemoryStore(4))), DIRECTORY)
    yield filesystem
    filesystem.check_invariants()
    image.close()


@pytest.fixture
def due(fs: FileSystem) -> list[Inode]:
    found: list[Inode] = []
    fs.reaping.on_due = found.append
    return found


def make(fs: FileSystem, policy: Reap, name: bytes = b"a") -> Inode:
    inode = fs.make(ROOT, name, FILE)
    fs.reaping.set(inode, policy)
    return inode


def test_the_policy_is_an_attribute_among_the_others(fs: FileSystem) -> None:
    inode = make(fs, NEVER)
    assert fs.reaping.policy(inode) == NEVER
    assert not inode.xattrs
    fs.xattrs.set(inode, b"user.other", b"x")
    fs.reaping.set(inode, LAST_ATTACH)
    assert fs.reaping.policy(inode) == LAST_ATTACH
    assert fs.xattrs.get(inode, b"user.anonfs.reap") == b"last-attach 7"
    fs.reaping.set(inode, NEVER)
    fs.reaping.set(inode, NEVER)
    assert fs.reaping.policy(inode) == NEVER
    assert fs.xattrs.all(inode) == {b"user.other": b"x"}


def test_the_close_of_the_last_area_raises_a_suspicion(fs: FileSystem, due: list[Inode]) -> None:
    inode = make(fs, LAST_AREA)
    area = ListLink()
    inode.share_ring.add_tail(area)
    inode.dentry.unmapped(1)
    assert not due
    area.unlink()
    inode.dentry.unmapped(1)
    assert due == [inode]


def test_the_close_of_an_area_of_the_group_does(fs: FileSystem, due: list[Inode]) -> None:
    inode = make(fs, LAST_ATTACH)
    inode.share_ring.add_tail(ListLink())
    inode.dentry.unmapped(1)
    assert not due
    inode.dentry.unmapped(7)
    assert due == [inode]


@pytest.mark.parametrize("policy", [LAST_AREA, LAST_ATTACH])
def test_the_last_release_does_where_a_mapping_has_stored(
    fs: FileSystem, due: list[Inode], policy: Reap
) -> None:
    inode = make(fs, policy)
    fs.open(inode)
    fs.release(inode)
    assert not due
    fs.open(inode)
    inode.was_mapped = True
    fs.release(inode)
    assert due == [inode]
    fs.open(inode)
    fs.release(inode)
    assert len(due) == 1


def test_a_release_that_is_not_the_last_does_too_but_for_a_group(
    fs: FileSystem, due: list[Inode]
) -> None:
    inodes = make(fs, LAST_AREA, b"a"), make(fs, LAST_ATTACH, b"b")
    for inode in inodes:
        fs.open(inode)
        fs.open(inode)
        inode.was_mapped = True
        fs.release(inode)
        assert inode.was_mapped
    assert due == [inodes[0]]


def test_what_was_stored_before_the_policy_was_set_does_not_count(
    fs: FileSystem, due: list[Inode]
) -> None:
    inode = make(fs, NEVER)
    fs.open(inode)
    inode.was_mapped = True
    fs.reaping.set(inode, LAST_AREA)
    fs.release(inode)
    assert not due


def test_who_has_no_policy_or_no_name_is_never_due(fs: FileSystem, due: list[Inode]) -> None:
    make(fs, NEVER).dentry.unmapped(0)
    nameless = make(fs, LAST_AREA, b"b")
    fs.open(nameless)
    fs.unlink(ROOT, b"b")
    nameless.dentry.unmapped(0)
    assert not due


def test_all_names_go_and_no_others(fs: FileSystem) -> None:
    below = fs.make(ROOT, b"d", DIRECTORY)
    first, second, stays = make(fs, NEVER, b"1"), make(fs, NEVER, b"2"), make(fs, NEVER, b"3")
    fs.link(first.ino, below.ino, b"1b")
    fs.open(second)
    names = fs.unlink_all([first, second, below])
    assert sorted(names) == [(ROOT, b"1"), (ROOT, b"2"), (below.ino, b"1b")]
    assert first.ino not in fs.inodes
    assert (second.nlink, stays.nlink, below.nlink) == (0, 1, 2)
    with pytest.raises(AnonfsError) as error:
        fs.lookup(below.ino, b"1b")
    assert error.value.errno == errno.ENOENT
    fs.release(second)
