import errno
import os
import stat
from collections.abc import Callable, Iterator

import pytest

from anonfs.errors import AnonfsError, InvariantError
from anonfs.mm import Image, Memory, sync
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode, exchange, rename

FILE = NewInode(stat.S_IFREG | 0o644, 1000, 100)
DIRECTORY = NewInode(stat.S_IFDIR | 0o755, 1000, 100)


@pytest.fixture
def fs() -> Iterator[FileSystem]:
    image = Image(16)
    memory = Memory(image, SwapArea(MemoryStore(1024)))
    ticks = iter(range(1, 1 << 30))
    filesystem = FileSystem(
        image, memory, NewInode(stat.S_IFDIR | 0o755, 0, 0), now=lambda: next(ticks)
    )
    yield filesystem
    filesystem.check_invariants()
    for inode in filesystem.inodes.values():
        inode.check_invariants(areas=0)
    memory.check_invariants()
    image.close()


def raises(number: int, call: object, *arguments: object, **named: object) -> None:
    with pytest.raises(AnonfsError) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    assert caught.value.errno == number


def file(fs: FileSystem, name: bytes = b"a", parent: int = ROOT) -> Inode:
    return fs.make(parent, name, FILE)


def directory(fs: FileSystem, name: bytes = b"d", parent: int = ROOT) -> Inode:
    return fs.make(parent, name, DIRECTORY)


def test_the_root_is_inode_one_and_is_never_deleted(fs: FileSystem) -> None:
    assert fs.lookup(ROOT, b".").ino == fs.lookup(ROOT, b"..").ino == 1
    fs.remember(fs.inode(ROOT))
    fs.forget(ROOT, 1)
    assert fs.inode(ROOT).nlink == 2


def test_a_file_is_found_by_its_name_until_it_is_unlinked(fs: FileSystem) -> None:
    made = file(fs)
    assert fs.lookup(ROOT, b"a") is made
    assert (made.nlink, made.uid, made.gid, made.size) == (1, 1000, 100, 0)
    fs.unlink(ROOT, b"a")
    raises(errno.ENOENT, fs.lookup, ROOT, b"a")
    assert list(fs.inodes) == [ROOT]


@pytest.mark.parametrize("holder", ["open", "kernel", "area", "link"])
def test_pages_stay_until_the_last_reference_is_put(fs: FileSystem, holder: str) -> None:
    made = file(fs)
    assert made.info is not None
    sync.write(fs.memory, made.info, 0, b"data")
    take: dict[str, Callable[[], object]] = {
        "open": lambda: fs.open(made),
        "kernel": lambda: fs.remember(made),
        "area": made.dentry.get,
        "link": lambda: fs.link(made.ino, ROOT, b"b"),
    }
    drop: dict[str, Callable[[], object]] = {
        "open": lambda: fs.release(made),
        "kernel": lambda: fs.forget(made.ino, 1),
        "area": made.dentry.put,
        "link": lambda: fs.unlink(ROOT, b"b"),
    }
    take[holder]()
    fs.unlink(ROOT, b"a")
    assert bytes(sync.read(fs.memory, made.info, 0, 4)) == b"data"
    drop[holder]()
    assert fs.memory.frames.used == 0
    raises(errno.ESTALE, fs.inode, made.ino)


def test_deleting_what_has_a_name_is_a_broken_invariant(fs: FileSystem) -> None:
    made = file(fs)
    with pytest.raises(InvariantError):
        made.dentry.put()
    made.dentry.get()
    fs.unlink(ROOT, b"a")
    with pytest.raises(InvariantError):
        made.dentry.put()


def test_the_kernel_may_forget_more_than_it_was_told(fs: FileSystem) -> None:
    made = file(fs)
    fs.remember(made)
    fs.remember(made)
    fs.forget(made.ino, 1)
    assert made.lookups == 1
    fs.forget(made.ino, 99)
    fs.forget(made.ino, 1)
    fs.forget(4711, 1)
    assert (made.lookups, made.dentry.count) == (0, 1)


def test_directories_count_their_subdirectories(fs: FileSystem) -> None:
    d = directory(fs)
    directory(fs, b"e", d.ino)
    file(fs, b"f", d.ino)
    assert (fs.inode(ROOT).nlink, d.nlink) == (3, 3)
    raises(errno.ENOTEMPTY, fs.rmdir, ROOT, b"d")
    fs.rmdir(d.ino, b"e")
    fs.unlink(d.ino, b"f")
    fs.rmdir(ROOT, b"d")
    assert fs.inode(ROOT).nlink == 2


def test_a_removed_directory_that_is_held_takes_no_new_names(fs: FileSystem) -> None:
    d = directory(fs)
    fs.remember(d)
    fs.rmdir(ROOT, b"d")
    raises(errno.ENOENT, fs.make, d.ino, b"x", FILE)
    source = file(fs)
    raises(errno.ENOENT, fs.link, source.ino, d.ino, b"x")
    raises(errno.ENOENT, rename, fs, ROOT, b"a", d.ino, b"x")
    fs.forget(d.ino, 1)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (b"", errno.EINVAL),
        (b".", errno.EINVAL),
        (b"..", errno.EINVAL),
        (b"a/b", errno.EINVAL),
        (b"a\0b", errno.EINVAL),
        (b"a" * 256, errno.ENAMETOOLONG),
    ],
)
def test_names_that_cannot_be(fs: FileSystem, name: bytes, number: int) -> None:
    raises(number, fs.make, ROOT, name, FILE)
    file(fs)
    raises(number, rename, fs, ROOT, b"a", ROOT, name)
    raises(number, fs.link, fs.lookup(ROOT, b"a").ino, ROOT, name)
    raises(number, fs.unlink, ROOT, name)


def test_any_other_bytes_are_a_name(fs: FileSystem) -> None:
    for name in (b"\xff\xfe", b"a" * 255, b" ", b"\n", b"-rf"):
        assert file(fs, name) is fs.lookup(ROOT, name)


def test_a_setgid_directory_hands_its_group_on(fs: FileSystem) -> None:
    d = fs.make(ROOT, b"d", NewInode(stat.S_IFDIR | stat.S_ISGID | 0o755, 1, 77))
    assert file(fs, b"f", d.ino).gid == 77
    below = directory(fs, b"e", d.ino)
    assert (below.gid, bool(below.mode & stat.S_ISGID)) == (77, True)


def test_links(fs: FileSystem) -> None:
    made = file(fs)
    assert fs.link(made.ino, ROOT, b"b") is made
    assert (made.nlink, made.dentry.count) == (2, 2)
    raises(errno.EEXIST, fs.link, made.ino, ROOT, b"b")
    raises(errno.EPERM, fs.link, directory(fs).ino, ROOT, b"c")


def test_symbolic_links(fs: FileSystem) -> None:
    target = b"/x" * 1000
    made = fs.make(ROOT, b"l", NewInode(stat.S_IFLNK | 0o777, 0, 0, target=target))
    assert (fs.readlink(made.ino), made.size) == (target, 2000)
    raises(errno.EINVAL, fs.readlink, ROOT)
    fs.unlink(ROOT, b"l")
    assert fs._image.blobs.chunks == 0
    too_long = NewInode(stat.S_IFLNK | 0o777, 0, 0, target=b"x" * 4096)
    raises(errno.ENAMETOOLONG, fs.make, ROOT, b"m", too_long)
    raises(errno.EINVAL, fs.make, ROOT, b"m", NewInode(0o644, 0, 0))


def test_rename_moves_and_replaces(fs: FileSystem) -> None:
    a, b, d = file(fs), file(fs, b"b"), directory(fs)
    rename(fs, ROOT, b"a", d.ino, b"a2")
    assert fs.lookup(d.ino, b"a2") is a
    fs.open(b)
    rename(fs, d.ino, b"a2", ROOT, b"b")
    assert (fs.lookup(ROOT, b"b"), b.nlink, b.dentry.count) == (a, 0, 1)
    fs.release(b)
    raises(errno.ESTALE, fs.inode, b.ino)


def test_rename_over_another_name_of_the_same_inode_does_nothing(fs: FileSystem) -> None:
    a = file(fs)
    fs.link(a.ino, ROOT, b"b")
    rename(fs, ROOT, b"a", ROOT, b"b")
    assert fs.lookup(ROOT, b"a") is fs.lookup(ROOT, b"b") is a
    rename(fs, ROOT, b"a", ROOT, b"a")


def test_what_rename_refuses(fs: FileSystem) -> None:
    file(fs)
    d, e = directory(fs), directory(fs, b"e")
    file(fs, b"f", e.ino)
    raises(errno.ENOENT, rename, fs, ROOT, b"x", ROOT, b"y")
    raises(errno.EISDIR, rename, fs, ROOT, b"a", ROOT, b"d")
    raises(errno.ENOTDIR, rename, fs, ROOT, b"d", ROOT, b"a")
    raises(errno.ENOTEMPTY, rename, fs, ROOT, b"d", ROOT, b"e")
    raises(errno.EEXIST, rename, fs, ROOT, b"a", ROOT, b"d", replace=False)
    raises(errno.EINVAL, rename, fs, ROOT, b"d", d.ino, b"x")
    inner = directory(fs, b"g", d.ino)
    raises(errno.EINVAL, rename, fs, ROOT, b"d", inner.ino, b"x")
    rename(fs, ROOT, b"e", inner.ino, b"e")
    assert (fs.inode(ROOT).nlink, inner.nlink) == (3, 3)
    assert fs.lookup(e.ino, b"..") is inner


def test_a_directory_replaces_an_empty_one(fs: FileSystem) -> None:
    d, e = directory(fs), directory(fs, b"e")
    rename(fs, ROOT, b"d", ROOT, b"e")
    assert fs.lookup(ROOT, b"e") is d
    assert fs.inode(ROOT).nlink == 3
    raises(errno.ESTALE, fs.inode, e.ino)


def test_exchange(fs: FileSystem) -> None:
    a, d = file(fs), directory(fs)
    e = directory(fs, b"e", d.ino)
    exchange(fs, ROOT, b"a", d.ino, b"e")
    assert (fs.lookup(ROOT, b"a"), fs.lookup(d.ino, b"e")) == (e, a)
    assert (fs.inode(ROOT).nlink, d.nlink) == (4, 2)
    assert fs.lookup(e.ino, b"..").ino == ROOT
    raises(errno.ENOENT, exchange, fs, ROOT, b"a", ROOT, b"x")
    directory(fs, b"inner", e.ino)
    raises(errno.EINVAL, exchange, fs, ROOT, b"a", e.ino, b"inner")


def test_truncate_and_its_bounds(fs: FileSystem) -> None:
    made = file(fs)
    before = made.mtime
    fs.truncate(made, 1 << 20)
    assert made.size == 1 << 20
    assert made.mtime == made.ctime > before
    raises(errno.EFBIG, fs.truncate, made, (1 << 50) + 1)
    raises(errno.EINVAL, fs.truncate, made, -1)
    raises(errno.EISDIR, fs.truncate, fs.inode(ROOT), 0)
    fifo = fs.make(ROOT, b"p", NewInode(stat.S_IFIFO | 0o600, 0, 0))
    raises(errno.EINVAL, fs.truncate, fifo, 0)


def test_writing_moves_the_end_and_mtime(fs: FileSystem) -> None:
    made = file(fs)
    with fs.promising.writing(made, 0, 100):
        fs.written(made, 100)
        fs.written(made, 50)
    assert made.size == 100


def test_attributes(fs: FileSystem) -> None:
    made = file(fs)
    ctime = made.ctime
    fs.set_attributes(made, mode=stat.S_IFDIR | 0o4711, uid=5, gid=6, atime=7, mtime=8)
    assert made.mode == stat.S_IFREG | 0o4711
    assert (made.uid, made.gid, made.atime, made.mtime) == (5, 6, 7, 8)
    assert made.ctime > ctime


def test_extended_attributes(fs: FileSystem) -> None:
    made = file(fs)
    values = {b"user.a": b"1", b"user.b": os.urandom(65536), b"security.c": b""}
    for name, value in values.items():
        fs.xattrs.set(made, name, value)
    assert fs.xattrs.all(made) == values
    fs.xattrs.set(made, b"user.a", b"2")
    assert fs.xattrs.get(made, b"user.a") == b"2"
    fs.xattrs.remove(made, b"user.a")
    raises(errno.ENODATA, fs.xattrs.get, made, b"user.a")
    raises(errno.ENODATA, fs.xattrs.remove, made, b"user.a")
    raises(errno.EOPNOTSUPP, fs.xattrs.set, made, b"system.posix_acl_access", b"")
    for number in range(15):
        fs.xattrs.set(made, b"user.%d" % number, bytes(60000))
    raises(errno.ENOSPC, fs.xattrs.set, made, b"user.much", bytes(60000) * 3)
    fs.unlink(ROOT, b"a")
    assert fs._image.blobs.chunks == 0


def test_handles_of_the_wrong_kind(fs: FileSystem) -> None:
    made = file(fs)
    raises(errno.ENOTDIR, fs.lookup, made.ino, b"x")
    raises(errno.ENOTDIR, fs.rmdir, ROOT, b"a")
    raises(errno.EISDIR, fs.unlink, ROOT, directory(fs) and b"d")
    raises(errno.ESTALE, fs.lookup, 99, b"x")


def test_the_pages_of_a_deleted_inode_are_not_those_of_the_next(fs: FileSystem) -> None:
    made = file(fs)
    assert made.info is not None
    sync.write(fs.memory, made.info, 0, b"x" * PAGE_SIZE)
    fs.unlink(ROOT, b"a")
    again = file(fs)
    assert again.info is not None
    assert again.ino == made.ino
    assert bytes(sync.read(fs.memory, again.info, 0, PAGE_SIZE)) == bytes(PAGE_SIZE)


def test_who_asked_is_told_of_a_file_before_it_is_deleted(fs: FileSystem) -> None:
    told: list[int] = []

    def note(inode: Inode) -> None:
        assert fs.inodes[inode.ino] is inode
        assert inode.info is not None
        told.append(inode.ino)

    fs.on_delete = note
    made = file(fs)
    directory(fs)
    fs.rmdir(ROOT, b"d")
    fs.open(made)
    fs.unlink(ROOT, b"a")
    assert told == []
    fs.release(made)
    assert told == [made.ino]
