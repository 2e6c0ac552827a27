from collections.abc import Iterator

import pytest

from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.vfs import ROOT, Departing, FileSystem, Inode, NewInode, rename

FILE, DIRECTORY = NewInode(0o100644, 0, 0), NewInode(0o040755, 0, 0)


class Clock:
    """Seconds, as they are set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fs(clock: Clock) -> Iterator[FileSystem]:
    image = Image(4)
    filesystem = FileSystem(image, Memory(image, SwapArea(MemoryStore(4))), DIRECTORY)
    filesystem.departing = Departing(clock)
    yield filesystem
    filesystem.check_invariants()
    image.close()


@pytest.fixture
def told(fs: FileSystem) -> list[object]:
    """Who begins to depart, and None for each that has gone."""
    found: list[object] = []
    fs.departing.on_note = found.append
    fs.departing.on_gone = lambda: found.append(None)
    return found


def known(fs: FileSystem, name: bytes = b"a", new: NewInode = FILE) -> Inode:
    """A file that the kernel knows."""
    inode = fs.make(ROOT, name, new)
    fs.remember(inode)
    return inode


def seconds(fs: FileSystem) -> float:
    """How long to await what departs now."""
    return fs.departing.seconds_left(fs.departing.last())


def test_from_an_unlink_until_the_kernel_forgets(fs: FileSystem, told: list[object]) -> None:
    inode = known(fs)
    assert not seconds(fs)
    fs.unlink(ROOT, b"a")
    assert told == [inode]
    assert seconds(fs) == 1.0
    fs.forget(inode.ino, 1)
    assert not seconds(fs)
    assert told == [inode, None]


def test_who_has_the_file_open_keeps_it(fs: FileSystem, told: list[object]) -> None:
    inode = known(fs)
    fs.open(inode)
    fs.open(inode)
    fs.unlink(ROOT, b"a")
    fs.release(inode)
    assert told == []
    assert not seconds(fs)
    fs.release(inode)
    assert told == [inode]
    assert seconds(fs) == 1.0


def test_who_has_another_name_is_not_departing(fs: FileSystem, told: list[object]) -> None:
    inode = known(fs)
    fs.link(inode.ino, ROOT, b"b")
    fs.open(inode)
    fs.unlink(ROOT, b"a")
    fs.release(inode)
    assert told == []
    assert not seconds(fs)


def test_what_the_kernel_does_not_know_is_gone_at_once(fs: FileSystem, told: list[object]) -> None:
    fs.make(ROOT, b"a", FILE)
    fs.unlink(ROOT, b"a")
    assert told == [None]


def test_what_is_replaced_and_a_directory(fs: FileSystem, told: list[object]) -> None:
    replaced = known(fs)
    known(fs, b"b")
    rename(fs, ROOT, b"b", ROOT, b"a")
    directory = known(fs, b"d", DIRECTORY)
    fs.rmdir(ROOT, b"d")
    assert told == [replaced, directory]


def test_a_file_that_is_opened_again(fs: FileSystem, told: list[object], clock: Clock) -> None:
    """As by way of a descriptor that is only a path."""
    inode = known(fs)
    fs.unlink(ROOT, b"a")
    fs.open(inode)
    assert not seconds(fs)
    clock.now += 5
    fs.release(inode)
    assert seconds(fs) == 1.0
    assert told == [inode, inode]


def test_none_is_awaited_for_long(fs: FileSystem, clock: Clock) -> None:
    known(fs)
    fs.unlink(ROOT, b"a")
    clock.now += 0.75
    assert seconds(fs) == 0.25
    other = known(fs, b"b")
    fs.unlink(ROOT, b"b")
    clock.now += 0.25
    assert seconds(fs) == 0.75
    fs.forget(other.ino, 1)
    assert not seconds(fs)


def test_what_departs_later_is_not_awaited(fs: FileSystem, clock: Clock) -> None:
    one = known(fs)
    fs.unlink(ROOT, b"a")
    last = fs.departing.last()
    clock.now += 0.25
    known(fs, b"b")
    fs.unlink(ROOT, b"b")
    assert fs.departing.seconds_left(last) == 0.75
    fs.forget(one.ino, 1)
    assert not fs.departing.seconds_left(last)


def test_who_opens_and_closes_what_he_keeps_delays_nobody(fs: FileSystem, clock: Clock) -> None:
    inode = known(fs)
    fs.unlink(ROOT, b"a")
    last = fs.departing.last()
    clock.now += 0.5
    fs.open(inode)
    fs.release(inode)
    assert not fs.departing.seconds_left(last)
