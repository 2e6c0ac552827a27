"""Who may read of what."""

import stat
from collections.abc import Iterator

import pytest

from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import Ino
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode
from anonfs.vm import Happening, Sight
from anonfsd._audience import Audience

OWNER, ALICE, BOB = 1000, 1001, 1002


@pytest.fixture
def fs() -> Iterator[FileSystem]:
    image = Image(16)
    memory = Memory(image, SwapArea(MemoryStore(64)))
    yield FileSystem(image, memory, NewInode(stat.S_IFDIR | 0o1777, OWNER, OWNER))
    image.close()


@pytest.fixture
def audience(fs: FileSystem) -> Audience:
    return Audience(fs, OWNER)


def file(fs: FileSystem, name: bytes, mode: int, parent: Ino = ROOT) -> Inode:
    return fs.make(parent, name, NewInode(stat.S_IFREG | mode, ALICE, ALICE))


def seen(audience: Audience, happening: Happening) -> list[Sight]:
    """By root, the mount's owner, Alice and Bob."""
    return [audience.sight(uid, happening) for uid in (0, OWNER, ALICE, BOB)]


def of_process(inode: Inode, uid: int) -> Happening:
    return Happening("open", inode, 1.0, uid, 7, None, 0x1000, 0x2000, 0, 1)


def test_addresses_are_for_root_and_the_process_owner(fs: FileSystem, audience: Audience) -> None:
    inode = file(fs, b"f", 0o644)
    some, every = Sight.WITHOUT_ADDRESSES, Sight.ALL
    assert seen(audience, of_process(inode, ALICE)) == [every, some, every, some]
    assert seen(audience, of_process(inode, BOB)) == [every, some, some, every]
    assert seen(audience, of_process(inode, OWNER)) == [every, every, some, some]


@pytest.mark.parametrize(("mode", "by_all"), [(0o600, False), (0o640, False), (0o604, True)])
def test_files_of_others(fs: FileSystem, audience: Audience, mode: int, by_all: bool) -> None:
    faulted = Happening("fault", file(fs, b"f", mode), 1.0, offset=0, pages=1)
    theirs = Sight.ALL if by_all else Sight.NOTHING
    assert seen(audience, faulted) == [Sight.ALL] * 3 + [theirs]


def test_what_nobody_else_can_reach(fs: FileSystem, audience: Audience) -> None:
    closed = fs.make(ROOT, b"d", NewInode(stat.S_IFDIR | 0o700, ALICE, ALICE))
    inode = file(fs, b"f", 0o644, closed.ino)
    some, nothing = Sight.WITHOUT_ADDRESSES, Sight.NOTHING
    assert seen(audience, of_process(inode, ALICE)) == [Sight.ALL, some, Sight.ALL, nothing]
    assert audience.sight(BOB, of_process(inode, BOB)) is Sight.ALL, "it is their own"


def test_an_inode_that_is_gone_and_its_number(fs: FileSystem, audience: Audience) -> None:
    gone = file(fs, b"f", 0o600)
    happening = Happening("delete", gone, 1.0)
    fs.unlink(ROOT, b"f")
    assert seen(audience, happening)[2:] == [Sight.NOTHING] * 2
    assert file(fs, b"g", 0o644).ino == gone.ino
    assert seen(audience, happening)[2:] == [Sight.NOTHING] * 2


def test_whom_the_past_is_for(audience: Audience) -> None:
    assert [audience.is_trusted(uid) for uid in (0, OWNER, ALICE)] == [True, True, False]
