import stat
from collections.abc import Iterator

import pytest

from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import Ino
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode, exchange, path_of, rename

FILE = NewInode(stat.S_IFREG | 0o644, 0, 0)
DIRECTORY = NewInode(stat.S_IFDIR | 0o755, 0, 0)


@pytest.fixture
def fs() -> Iterator[FileSystem]:
    image = Image(16)
    memory = Memory(image, SwapArea(MemoryStore(64)))
    yield FileSystem(image, memory, NewInode(stat.S_IFDIR | 0o755, 0, 0))
    image.close()


@pytest.fixture
def directory(fs: FileSystem) -> Ino:
    return fs.make(ROOT, b"d", DIRECTORY).ino


@pytest.fixture
def file(fs: FileSystem, directory: Ino) -> Inode:
    made = fs.make(directory, b"f", FILE)
    fs.open(made)
    return made


def path(fs: FileSystem, inode: Inode) -> bytes | None:
    return path_of(fs.inodes, inode)


def test_a_path_goes_down_from_the_root(fs: FileSystem, file: Inode, directory: Ino) -> None:
    assert path(fs, fs.inode(ROOT)) == b""
    assert path(fs, file) == b"d/f"
    below = fs.make(directory, b"\xff", DIRECTORY)
    assert path(fs, fs.make(below.ino, b"g", FILE)) == b"d/\xff/g"


def test_it_follows_renames_of_it_and_of_what_it_is_in(
    fs: FileSystem, file: Inode, directory: Ino
) -> None:
    rename(fs, ROOT, b"d", ROOT, b"e")
    assert path(fs, file) == b"e/f"
    other = fs.make(ROOT, b"other", FILE)
    fs.open(other)
    exchange(fs, directory, b"f", ROOT, b"other")
    assert (path(fs, file), path(fs, other)) == (b"other", b"e/f")
    rename(fs, ROOT, b"other", directory, b"f")
    assert (path(fs, file), path(fs, other)) == (b"e/f", None)


def test_links(fs: FileSystem, file: Inode, directory: Ino) -> None:
    fs.link(file.ino, ROOT, b"second")
    assert path(fs, file) == b"second"
    fs.unlink(directory, b"f")
    assert path(fs, file) == b"second"
    fs.unlink(ROOT, b"second")
    assert path(fs, file) is None
    fs.make(ROOT, b"second", FILE)
    assert path(fs, file) is None, "which is another file's name now"


def test_a_removed_directory_has_none(fs: FileSystem) -> None:
    above = fs.make(ROOT, b"a", DIRECTORY)
    below = fs.make(above.ino, b"b", DIRECTORY)
    fs.remember(below)
    fs.rmdir(above.ino, b"b")
    fs.rmdir(ROOT, b"a")
    assert path(fs, below) is None


def test_what_no_call_could_take_has_none(fs: FileSystem) -> None:
    above = fs.inode(ROOT)
    paths = []
    for _ in range(20):
        above = fs.make(above.ino, b"x" * 255, DIRECTORY)
        paths.append(path(fs, above))
    assert paths[15] == b"/".join([b"x" * 255] * 16)
    assert paths[16:] == [None] * 4
