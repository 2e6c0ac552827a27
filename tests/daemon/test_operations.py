"""Handlers called with no mount, with what no kernel should send.

The answer is a result or a FUSEError, never another exception, and never EIO: that would mean that
something nobody thought of came up. Whatever is asked, names, pages and references add up after it.
"""

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest
import trio
from pyfuse3 import EntryAttributes, FUSEError

from anonfs.errors import AnonfsError, InvariantError
from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import MAX_FILE_SIZE, PAGE_SIZE
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode
from anonfsd._files import OpenFiles
from anonfsd._operations import Operations
from anonfsd._pager import Pager

FRAMES = 64
_MOST = 1 << 63
CTX: Any = SimpleNamespace(uid=0, gid=0, pid=1, umask=0)
USER: Any = SimpleNamespace(uid=1000, gid=1000, pid=1, umask=0)
NOWHERE = 0x7FFF_FFFF
"""An inode number and a handle that nobody ever got."""

BAD_NAMES: list[tuple[bytes, str]] = [
    (b"", "EINVAL"),
    (b".", "EINVAL"),
    (b"..", "EINVAL"),
    (b"a/b", "EINVAL"),
    (b"/", "EINVAL"),
    (b"a\0b", "EINVAL"),
    (b"n" * 256, "ENAMETOOLONG"),
    (b"n" * 70_000, "ENAMETOOLONG"),
]


@dataclass
class FakeRings:
    """Counts what it is told."""

    changes: int = 0
    dropped: list[int] = field(default_factory=list)

    def note_change(self) -> None:
        self.changes += 1

    def note_last_release(self, inode: Inode) -> None:
        self.dropped.append(inode.ino)


class FakeInspection:
    """Has one attribute."""

    NAME = b"user.anonfs.kind"

    def owns(self, name: bytes) -> bool:
        return name.startswith(b"user.anonfs.")

    def names(self, _inode: Inode) -> list[bytes]:
        return [self.NAME]

    async def get(self, _inode: Inode, name: bytes, uid: int) -> bytes:
        if name != self.NAME:
            raise AnonfsError(errno.ENODATA)
        return b"shared for %d" % uid

    async def set(self, _inode: Inode, _name: bytes, _value: bytes) -> None:
        raise AnonfsError(errno.EPERM)


class Mount:
    """Operations over a small file system, and an inode of each kind in it."""

    def __init__(self) -> None:
        self.image = Image(FRAMES)
        self.memory = Memory(self.image, SwapArea(MemoryStore(2 * FRAMES)))
        root = NewInode(stat.S_IFDIR | 0o755, 0, 0)
        self.filesystem = FileSystem(self.image, self.memory, root)
        self.failures = 0
        operations: Any = Operations(self.filesystem, Pager(self.memory), self._fail)
        operations.rings = self.rings = FakeRings()
        operations.inspection = FakeInspection()
        self.ops = operations
        kinds = {
            b"file": stat.S_IFREG,
            b"dir": stat.S_IFDIR,
            b"link": stat.S_IFLNK,
            b"fifo": stat.S_IFIFO,
        }
        self.inos = {
            name: self.filesystem.make(ROOT, name, NewInode(kind | 0o644, 0, 0, target=b"x")).ino
            for name, kind in kinds.items()
            if kind == stat.S_IFLNK
        }
        for name, kind in kinds.items():
            if kind != stat.S_IFLNK:
                self.inos[name] = self.filesystem.make(ROOT, name, NewInode(kind | 0o644, 0, 0)).ino

    def _fail(self) -> None:
        self.failures += 1

    def call(self, name: Any, *arguments: object) -> Any:
        """What a handler returns, or the name of the errno it answers with."""
        handler = getattr(self.ops, name)
        try:
            return trio.run(lambda: handler(*arguments))
        except FUSEError as error:
            return errno.errorcode[error.errno]

    def open(self, name: bytes = b"file", flags: int = os.O_RDWR) -> int:
        """A handle of one of the inodes."""
        return int(self.call("open", self.inos[name], flags, CTX).fh)

    def write(self, fh: int, offset: int, data: bytes) -> Any:
        return self.call("write", fh, offset, data)

    def check(self) -> None:
        self.filesystem.check_invariants()
        self.memory.check_invariants()
        for inode in self.filesystem.inodes.values():
            inode.check_invariants(areas=0)


@pytest.fixture
def mount() -> Iterator[Mount]:
    mount = Mount()
    yield mount
    mount.check()
    assert mount.failures == 0


def _fields(**wanted: bool) -> Any:
    names = ("size", "mode", "uid", "gid", "atime", "mtime", "ctime")
    return SimpleNamespace(**{f"update_{name}": wanted.get(name, False) for name in names})


def _attributes(**values: int) -> EntryAttributes:
    attributes = EntryAttributes()
    for name, value in values.items():
        setattr(attributes, f"st_{name}", value)
    return attributes


def _set(mount: Mount, ino: int, **values: int) -> Any:
    fields = _fields(**{name.removesuffix("_ns"): True for name in values})
    # Not EntryAttributes: that refuses what does not fit its fields.
    names = ("size", "mode", "uid", "gid", "atime_ns", "mtime_ns", "ctime_ns")
    attributes = SimpleNamespace(**{f"st_{name}": values.get(name, 0) for name in names})
    return mount.call("setattr", ino, attributes, fields, None, CTX)


# -- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "answer"), BAD_NAMES)
def test_bad_names(mount: Mount, name: bytes, answer: str) -> None:
    file = mount.inos[b"file"]
    names = sorted(entry[2] for entry in mount.image.names.walk())
    assert mount.call("create", ROOT, name, 0o644, os.O_RDWR, CTX) == answer
    assert mount.call("mknod", ROOT, name, stat.S_IFIFO, 0, CTX) == answer
    assert mount.call("mkdir", ROOT, name, 0o755, CTX) == answer
    assert mount.call("symlink", ROOT, name, b"target", CTX) == answer
    assert mount.call("link", file, ROOT, name, CTX) == answer
    assert mount.call("unlink", ROOT, name, CTX) == answer
    assert mount.call("rmdir", ROOT, name, CTX) == answer
    for flags in (0, 1, 2):
        assert mount.call("rename", ROOT, name, ROOT, b"new", flags, CTX) == answer
        assert mount.call("rename", ROOT, b"file", ROOT, name, flags, CTX) == answer
    assert names == sorted(entry[2] for entry in mount.image.names.walk())


@pytest.mark.parametrize(("name", "answer"), BAD_NAMES)
def test_looking_up_bad_names(mount: Mount, name: bytes, answer: str) -> None:
    found = mount.call("lookup", ROOT, name, CTX)
    if name in {b".", b".."}:
        assert found.st_ino == ROOT
    else:
        assert found == answer


@pytest.mark.parametrize("parent", [0, NOWHERE, -1, _MOST, 1 << 64])
def test_stale_parents(mount: Mount, parent: int) -> None:
    calls: list[tuple[object, ...]] = [
        ("lookup", parent, b"x", CTX),
        ("create", parent, b"x", 0o644, os.O_RDWR, CTX),
        ("mknod", parent, b"x", stat.S_IFREG, 0, CTX),
        ("mkdir", parent, b"x", 0o755, CTX),
        ("symlink", parent, b"x", b"y", CTX),
        ("link", mount.inos[b"file"], parent, b"x", CTX),
        ("unlink", parent, b"x", CTX),
        ("rmdir", parent, b"x", CTX),
        ("opendir", parent, CTX),
        ("rename", parent, b"file", ROOT, b"x", 0, CTX),
        ("rename", ROOT, b"file", parent, b"x", 0, CTX),
        ("rename", ROOT, b"file", parent, b"x", 2, CTX),
    ]
    assert {mount.call(*call) for call in calls} == {"ESTALE"}


@pytest.mark.parametrize("parent", [b"file", b"link", b"fifo"])
def test_parents_that_are_no_directories(mount: Mount, parent: bytes) -> None:
    ino = mount.inos[parent]
    calls: list[tuple[object, ...]] = [
        ("lookup", ino, b"x", CTX),
        ("create", ino, b"x", 0o644, os.O_RDWR, CTX),
        ("mkdir", ino, b"x", 0o755, CTX),
        ("unlink", ino, b"x", CTX),
        ("rmdir", ino, b"x", CTX),
        ("opendir", ino, CTX),
        ("link", mount.inos[b"file"], ino, b"x", CTX),
        ("rename", ROOT, b"file", ino, b"x", 0, CTX),
    ]
    assert {mount.call(*call) for call in calls} == {"ENOTDIR"}


@pytest.mark.parametrize("ino", [0, NOWHERE, -1, _MOST])
def test_stale_inodes(mount: Mount, ino: int) -> None:
    calls: list[tuple[object, ...]] = [
        ("getattr", ino, CTX),
        ("setattr", ino, _attributes(), _fields(), None, CTX),
        ("open", ino, os.O_RDWR, CTX),
        ("open", ino, os.O_RDWR | os.O_TRUNC, CTX),
        ("readlink", ino, CTX),
        ("link", ino, ROOT, b"x", CTX),
        ("getxattr", ino, b"user.a", CTX),
        ("setxattr", ino, b"user.a", b"", CTX),
        ("listxattr", ino, CTX),
        ("removexattr", ino, b"user.a", CTX),
    ]
    assert {mount.call(*call) for call in calls} == {"ESTALE"}


def test_an_inode_is_stale_after_its_last_user(mount: Mount) -> None:
    ino = mount.inos[b"file"]
    fh = mount.open()
    mount.call("lookup", ROOT, b"file", CTX)
    mount.call("unlink", ROOT, b"file", CTX)
    assert mount.call("getattr", ino, CTX).st_nlink == 0
    mount.call("release", fh)
    assert mount.call("getattr", ino, CTX).st_nlink == 0
    mount.call("forget", [(ino, 1)])
    assert mount.call("getattr", ino, CTX) == "ESTALE"


@pytest.mark.parametrize("flags", [3, 4, 5, 8, 0x80000000, -1, 1 << 40])
def test_rename_flags(mount: Mount, flags: int) -> None:
    assert mount.call("rename", ROOT, b"file", ROOT, b"new", flags, CTX) == "EINVAL"
    assert mount.call("lookup", ROOT, b"new", CTX) == "ENOENT"


def test_a_name_that_is_taken_is_kept(mount: Mount) -> None:
    """The kernel looks first, and yet another request may have come between."""
    ino = mount.call("create", ROOT, b"taken", 0o644, os.O_RDWR, CTX)[1].st_ino
    assert mount.call("rename", ROOT, b"file", ROOT, b"taken", 1, CTX) == "EEXIST"
    assert mount.call("link", mount.inos[b"file"], ROOT, b"taken", CTX) == "EEXIST"
    for call in (("mkdir", ROOT, b"taken", 0o755), ("symlink", ROOT, b"taken", b"x")):
        assert mount.call(*call, CTX) == "EEXIST"
    assert mount.call("create", ROOT, b"taken", 0o644, os.O_RDWR, CTX) == "EEXIST"
    assert mount.call("lookup", ROOT, b"taken", CTX).st_ino == ino
    assert mount.call("lookup", ROOT, b"file", CTX).st_ino == mount.inos[b"file"]


def test_a_directory_does_not_move_below_itself(mount: Mount) -> None:
    inner = mount.call("mkdir", mount.inos[b"dir"], b"inner", 0o755, CTX).st_ino
    for flags, name in ((0, b"x"), (1, b"x"), (2, b"deep")):
        mount.call("mkdir", inner, b"deep", 0o755, CTX)
        assert mount.call("rename", ROOT, b"dir", inner, name, flags, CTX) == "EINVAL"
        assert mount.call("rename", inner, b"deep", ROOT, b"dir", 2, CTX) == "EINVAL"


@pytest.mark.parametrize("mode", [0, 0o644, stat.S_IFDIR, stat.S_IFLNK, 0o170000, 0o150000])
def test_modes_that_name_no_node(mount: Mount, mode: int) -> None:
    assert mount.call("mknod", ROOT, b"x", mode, 0, CTX) == "EINVAL"
    assert mount.call("lookup", ROOT, b"x", CTX) == "ENOENT"


def test_types_come_from_the_call_and_not_from_the_mode(mount: Mount) -> None:
    _, created = mount.call("create", ROOT, b"x", stat.S_IFDIR | 0o7777, os.O_RDWR, CTX)
    assert created.st_mode == stat.S_IFREG | 0o7777
    made = mount.call("mkdir", ROOT, b"y", stat.S_IFREG | 0o777, CTX)
    assert made.st_mode == stat.S_IFDIR | 0o777


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_targets_that_are_too_long(mount: Mount, size: int) -> None:
    assert mount.call("symlink", ROOT, b"x", b"t" * size, CTX) == "ENAMETOOLONG"
    assert mount.call("lookup", ROOT, b"x", CTX) == "ENOENT"


def test_links_to_directories(mount: Mount) -> None:
    assert mount.call("link", mount.inos[b"dir"], ROOT, b"x", CTX) == "EPERM"
    assert mount.call("link", ROOT, mount.inos[b"dir"], b"x", CTX) == "EPERM"
    assert mount.call("readlink", mount.inos[b"dir"], CTX) == "EINVAL"


@pytest.mark.parametrize("times", [0, 1, 2, 3, 1 << 63, -1])
def test_forgetting_any_number_of_times(mount: Mount, times: int) -> None:
    ino = mount.inos[b"file"]
    for _ in range(2):
        mount.call("lookup", ROOT, b"file", CTX)
    mount.call("forget", [(ino, times), (NOWHERE, times), (ROOT, times), (0, 1), (-1, 1)])
    mount.check()
    mount.call("forget", [(ino, 1 << 62)])
    assert mount.filesystem.inode(ino).lookups == 0
    mount.call("forget", [(ino, 1)])
    assert mount.call("getattr", ino, CTX).st_nlink == 1


def test_an_inode_lasts_until_all_lookups_are_forgotten(mount: Mount) -> None:
    ino = mount.inos[b"file"]
    for _ in range(3):
        mount.call("lookup", ROOT, b"file", CTX)
    mount.call("unlink", ROOT, b"file", CTX)
    mount.call("forget", [(ino, 1)])
    mount.call("forget", [(ino, 1)])
    assert mount.call("getattr", ino, CTX).st_nlink == 0
    mount.call("forget", [(ino, 1)])
    assert mount.call("getattr", ino, CTX) == "ESTALE"


def test_forget_of_the_root_leaves_the_root(mount: Mount) -> None:
    mount.call("lookup", ROOT, b".", CTX)
    mount.call("forget", [(ROOT, 5)])
    mount.call("forget", [(ROOT, 5)])
    assert mount.call("getattr", ROOT, CTX).st_ino == ROOT


# -- attributes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "answer"),
    [
        (-1, "EINVAL"),
        (-_MOST, "EINVAL"),
        (MAX_FILE_SIZE + 1, "EFBIG"),
        (_MOST - 1, "EFBIG"),
        (_MOST, "EFBIG"),
        (1 << 64, "EFBIG"),
        (1 << 200, "EFBIG"),
    ],
)
def test_absurd_sizes(mount: Mount, size: int, answer: str) -> None:
    ino = mount.inos[b"file"]
    assert _set(mount, ino, size=size) == answer
    assert _set(mount, ino, size=size, mode=0o600) == answer
    found = mount.call("getattr", ino, CTX)
    assert (found.st_size, found.st_mode & 0o7777) == (0, 0o644)


def test_sizes_of_what_has_none(mount: Mount) -> None:
    assert _set(mount, mount.inos[b"dir"], size=0) == "EISDIR"
    assert _set(mount, mount.inos[b"link"], size=0) == "EINVAL"
    assert _set(mount, mount.inos[b"fifo"], size=0) == "EINVAL"
    for name in (b"link", b"fifo"):
        assert mount.call("open", mount.inos[name], os.O_RDWR | os.O_TRUNC, CTX) == "EINVAL"
    assert mount.call("open", mount.inos[b"dir"], os.O_RDWR | os.O_TRUNC, CTX) == "EISDIR"


def test_a_mode_keeps_its_type(mount: Mount) -> None:
    for name, ino in mount.inos.items():
        kind = stat.S_IFMT(mount.call("getattr", ino, CTX).st_mode)
        changed = _set(mount, ino, mode=0o7777777)
        assert changed.st_mode == kind | 0o7777, name


@pytest.mark.parametrize("time", [1 << 63, (1 << 64) - 1, -(1 << 63) - 1, 1 << 100])
def test_times_that_do_not_fit(mount: Mount, time: int) -> None:
    """They are stored as well as can be, or refused with nothing changed."""
    ino = mount.inos[b"file"]
    answer = _set(mount, ino, mode=0o600, uid=7, atime_ns=5, mtime_ns=time)
    found = mount.call("getattr", ino, CTX)
    changed = found.st_mode & 0o7777, found.st_uid, found.st_atime_ns == 5
    if isinstance(answer, str):
        assert answer != "EIO"
        assert changed == (0o644, 0, False)
    else:
        assert changed == (0o600, 7, True)


def test_setgid_of_a_caller_who_has_gone(mount: Mount) -> None:
    ino = mount.inos[b"file"]
    gone: Any = SimpleNamespace(uid=1000, gid=1000, pid=NOWHERE, umask=0)
    fields, mode = _fields(mode=True), _attributes(mode=0o6755)
    answer = mount.call("setattr", ino, mode, fields, None, gone)
    assert answer.st_mode & 0o7777 == 0o4755


def test_opening_to_truncate_takes_suid_and_sgid_away(mount: Mount) -> None:
    """The kernel leaves it to the daemon, with O_TRUNC itself."""
    ino = mount.inos[b"file"]
    for ctx, left in ((CTX, 0o6777), (USER, 0o777)):
        _set(mount, ino, mode=0o6777)
        fh = int(mount.call("open", ino, os.O_RDWR | os.O_TRUNC, ctx).fh)
        mount.call("release", fh)
        assert mount.call("getattr", ino, CTX).st_mode & 0o7777 == left


# -- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fh", [0, -1, NOWHERE, 1 << 64])
def test_handles_that_stand_for_nothing(mount: Mount, fh: int) -> None:
    directory = mount.call("opendir", ROOT, CTX)
    calls: list[tuple[object, ...]] = [
        ("read", fh, 0, 10),
        ("write", fh, 0, b"x"),
        ("flush", fh),
        ("fsync", fh, True),
        ("release", fh),
        ("readdir", fh, 0, None),
        ("releasedir", fh),
        ("fsyncdir", fh, False),
        ("read", directory, 0, 10),
        ("write", directory, 0, b"x"),
        ("release", directory),
    ]
    assert {mount.call(*call) for call in calls} == {"EBADF"}
    mount.call("releasedir", directory)
    assert mount.call("releasedir", directory) == "EBADF"


def test_a_released_handle(mount: Mount) -> None:
    fh = mount.open()
    assert mount.call("release", fh) is None
    assert mount.rings.dropped == [mount.inos[b"file"]]
    assert mount.call("release", fh) == "EBADF"
    assert mount.write(fh, 0, b"x") == "EBADF"
    assert mount.filesystem.opens == 0


@pytest.mark.parametrize("size", [0, -1, -_MOST, 1, 4096, 1 << 20, 1 << 40, _MOST, 1 << 64])
@pytest.mark.parametrize("offset", [0, 5, 10, 11, -1, -_MOST, MAX_FILE_SIZE, _MOST, 1 << 64])
def test_reads_of_any_size_at_any_offset(mount: Mount, offset: int, size: int) -> None:
    fh = mount.open()
    mount.write(fh, 0, b"0123456789")
    found = mount.call("read", fh, offset, size)
    if offset < 0 or size < 0:
        assert found in {b"", "EINVAL"}
    else:
        assert bytes(found) == b"0123456789"[offset : offset + size]


@pytest.mark.parametrize(
    ("offset", "answer"),
    [
        (-1, "EINVAL"),
        (-_MOST, "EINVAL"),
        (MAX_FILE_SIZE, "EFBIG"),
        (MAX_FILE_SIZE - 1, "EFBIG"),
        (_MOST - 1, "EFBIG"),
        (_MOST, "EFBIG"),
        (1 << 100, "EFBIG"),
    ],
)
def test_writes_at_absurd_offsets(mount: Mount, offset: int, answer: str) -> None:
    fh = mount.open()
    assert mount.write(fh, offset, b"xy") == answer
    assert mount.call("getattr", mount.inos[b"file"], CTX).st_size == 0
    assert mount.memory.frames.used == 0


def test_the_last_byte_that_a_file_can_have(mount: Mount) -> None:
    fh = mount.open()
    assert mount.write(fh, MAX_FILE_SIZE - 2, b"xy") == 2
    assert mount.call("read", fh, MAX_FILE_SIZE - 3, 100) == b"\0xy"
    assert mount.call("getattr", mount.inos[b"file"], CTX).st_blocks == PAGE_SIZE // 512


def test_a_write_larger_than_the_budget(mount: Mount) -> None:
    fh = mount.open()
    mount.write(fh, 0, b"kept")
    assert mount.write(fh, 0, bytes((FRAMES + 1) * PAGE_SIZE)) == "ENOSPC"
    assert mount.call("read", fh, 0, 10) == b"kept"


def test_a_write_that_finds_budget_and_swap_full(mount: Mount) -> None:
    fh = mount.open()
    chunk = b"f" * (FRAMES // 4 * PAGE_SIZE)
    done = 0
    while mount.write(fh, done, chunk) == len(chunk):
        done += len(chunk)
    assert done == 3 * FRAMES * PAGE_SIZE
    assert mount.write(fh, done, b"x") == "ENOSPC"
    assert mount.call("getattr", mount.inos[b"file"], CTX).st_size == done
    for offset in range(0, done, len(chunk)):
        assert mount.call("read", fh, offset, len(chunk)) == chunk
    assert _set(mount, mount.inos[b"file"], size=done - 1).st_size == done - 1


@pytest.mark.parametrize("name", [b"dir", b"link", b"fifo"])
def test_what_has_no_pages_is_neither_read_nor_written(mount: Mount, name: bytes) -> None:
    fh = mount.open(name)
    assert mount.call("read", fh, 0, 10) in {b"", "EISDIR", "EINVAL"}
    assert mount.write(fh, 0, b"x") == ("EISDIR" if name == b"dir" else "EINVAL")


def test_statfs(mount: Mount) -> None:
    mount.write(mount.open(), 0, b"x" * 5 * PAGE_SIZE)
    found = mount.call("statfs", CTX)
    assert found.f_blocks == 3 * FRAMES
    assert found.f_bfree == found.f_bavail == 3 * FRAMES - 5


# -- directories ---------------------------------------------------------------------------


class Listing:
    """What READDIR hands out, up to ``room`` entries a request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.names: list[bytes] = []
        self.next = 0
        self._room = room
        self._left = room
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, _token: object, name: bytes, _attr: object, following: int) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self.names.append(name)
        self.next = following
        return True

    def read(self, mount: Mount, fh: int, start: int) -> Any:
        self.names, self._left = [], self._room
        return mount.call("readdir", fh, start, None)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 100])
def test_a_listing_in_pieces(mount: Mount, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    fh = mount.call("opendir", ROOT, CTX)
    listing, names, start = Listing(monkeypatch, room), [], 0
    while listing.read(mount, fh, start) is None and listing.names:
        names += listing.names
        start = listing.next
    assert names[:2] == [b".", b".."]
    assert sorted(names[2:]) == sorted(mount.inos)
    lookups = {mount.filesystem.inode(ino).lookups for ino in mount.inos.values()}
    assert lookups == {1}, "each entry but the dots counts as a lookup, once"


@pytest.mark.parametrize("start", [6, 7, 1000, 1 << 62, _MOST, 1 << 64])
def test_a_listing_from_beyond_its_end(
    mount: Mount, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    fh = mount.call("opendir", ROOT, CTX)
    listing = Listing(monkeypatch, 100)
    assert listing.read(mount, fh, start) is None
    assert listing.names == []


def test_a_listing_of_a_removed_directory(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    mount.call("lookup", ROOT, b"dir", CTX)
    fh = mount.call("opendir", mount.inos[b"dir"], CTX)
    mount.call("rmdir", ROOT, b"dir", CTX)
    assert Listing(monkeypatch, 5).read(mount, fh, 0) is None
    mount.call("forget", [(mount.inos[b"dir"], 1)])
    answer = Listing(monkeypatch, 5).read(mount, fh, 0)
    assert answer in {None, "ENOENT", "ESTALE"}


# -- extended attributes -------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"", b"bare", b"system.posix_acl_access", b"foreign.a", b"\xff"])
def test_attributes_of_foreign_namespaces(mount: Mount, name: bytes) -> None:
    ino = mount.inos[b"file"]
    assert mount.call("setxattr", ino, name, b"x", CTX) == "ENOTSUP"
    assert mount.call("getxattr", ino, name, CTX) == "ENODATA"
    assert mount.call("removexattr", ino, name, CTX) == "ENODATA"


@pytest.mark.parametrize("size", [1 << 20, 2 << 20])
def test_attributes_that_are_too_large(mount: Mount, size: int) -> None:
    ino = mount.inos[b"file"]
    mount.call("setxattr", ino, b"user.kept", b"x", CTX)
    assert mount.call("setxattr", ino, b"user.a", bytes(size), CTX) == "ENOSPC"
    assert mount.call("listxattr", ino, CTX) == [FakeInspection.NAME, b"user.kept"]
    assert mount.call("getxattr", ino, b"user.kept", CTX) == b"x"


def test_the_daemons_own_attributes(mount: Mount) -> None:
    ino = mount.inos[b"file"]
    assert mount.call("getxattr", ino, FakeInspection.NAME, USER) == b"shared for 1000"
    assert mount.call("setxattr", ino, b"user.anonfs.x", b"", CTX) == "EPERM"
    assert mount.call("removexattr", ino, b"user.anonfs.x", CTX) == "EPERM"
    assert mount.call("getxattr", ino, b"user.anonfs.x", CTX) == "ENODATA"


# -- what nobody foresaw -------------------------------------------------------------------


class Broken:
    """Raises ``error`` whatever is asked of it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


_CALLS: dict[str, Callable[[Mount], tuple[object, ...]]] = {
    "lookup": lambda _: (ROOT, b"file", CTX),
    "create": lambda _: (ROOT, b"x", 0o644, os.O_RDWR, CTX),
    "mknod": lambda _: (ROOT, b"x", stat.S_IFREG, 0, CTX),
    "mkdir": lambda _: (ROOT, b"x", 0o755, CTX),
    "symlink": lambda _: (ROOT, b"x", b"y", CTX),
    "readlink": lambda mount: (mount.inos[b"link"], CTX),
    "link": lambda mount: (mount.inos[b"file"], ROOT, b"x", CTX),
    "unlink": lambda _: (ROOT, b"file", CTX),
    "rmdir": lambda _: (ROOT, b"dir", CTX),
    "rename": lambda _: (ROOT, b"file", ROOT, b"x", 0, CTX),
    "getattr": lambda _: (ROOT, CTX),
    "setattr": lambda mount: (mount.inos[b"file"], _attributes(), _fields(mode=True), None, CTX),
    "statfs": lambda _: (CTX,),
    "open": lambda mount: (mount.inos[b"file"], os.O_RDWR, CTX),
    "read": lambda _: (1, 0, 10),
    "write": lambda _: (1, 0, b"x"),
    "flush": lambda _: (1,),
    "fsync": lambda _: (1, True),
    "release": lambda _: (1,),
    "opendir": lambda _: (ROOT, CTX),
    "readdir": lambda _: (1, 0, None),
    "releasedir": lambda _: (1,),
    "fsyncdir": lambda _: (1, True),
    "getxattr": lambda _: (ROOT, b"user.a", CTX),
    "setxattr": lambda _: (ROOT, b"user.a", b"x", CTX),
    "listxattr": lambda _: (ROOT, CTX),
    "removexattr": lambda _: (ROOT, b"user.a", CTX),
}


@pytest.mark.parametrize("handler", _CALLS)
@pytest.mark.parametrize(
    ("error", "answer", "failures"),
    [
        (MemoryError(), "ENOMEM", 0),
        (ValueError("unforeseen"), "EIO", 0),
        (InvariantError("miscounted"), "EIO", 1),
        (AnonfsError(errno.ENOSPC), "ENOSPC", 0),
        (OSError(errno.EMFILE, "too many files of the daemon's own"), "EIO", 0),
    ],
    ids=["MemoryError", "ValueError", "InvariantError", "AnonfsError", "OSError"],
)
def test_unforeseen_errors(handler: str, error: Exception, answer: str, failures: int) -> None:
    mount = Mount()
    arguments = _CALLS[handler](mount)
    mount.ops.filesystem = mount.ops.files = mount.ops.pager = Broken(error)
    assert mount.call(handler, *arguments) == answer
    assert mount.failures == failures
    mount.check()


def test_every_handler_is_tried() -> None:
    base = set(vars(pyfuse3.Operations))
    handlers = {name for name in vars(Operations) if name in base and not name.startswith("_")}
    settings = {"supports_dot_lookup", "enable_writeback_cache", "enable_acl"}
    assert handlers - settings - {"forget"} == set(_CALLS)


@pytest.mark.parametrize("error", [MemoryError(), ValueError(), InvariantError("miscounted")])
def test_forget_answers_nobody(error: Exception) -> None:
    mount = Mount()
    mount.ops.filesystem = Broken(error)
    assert mount.call("forget", [(ROOT, 1)]) is None
    assert mount.failures == isinstance(error, InvariantError)


@pytest.mark.parametrize("where", ["allocate", "release"])
def test_no_memory_half_way(mount: Mount, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A write that fails for want of memory leaves the file as it was."""
    fh = mount.open()
    mount.write(fh, 0, b"kept")
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise MemoryError

        patched.setattr(mount.memory.leaves, where, fail)
        answer = mount.write(fh, 1 << 30, b"far")
        assert answer == ("ENOMEM" if where == "allocate" else 3)
    assert mount.call("read", fh, 0, 4) == b"kept"


# -- anything at all -----------------------------------------------------------------------

_INOS = [0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 9, NOWHERE]
_NAMES = [b"file", b"dir", b"link", b"a", b"b", b"..", b"", b"n" * 256, b"x/y"]
_SIZES = [0, 1, 4095, 4096, 4097, 20_000, 1 << 30, MAX_FILE_SIZE, _MOST - 1]


def _anything(dice: random.Random, files: OpenFiles) -> tuple[str, list[object]]:
    """A handler and arguments of the right type."""
    ino, other = dice.choice(_INOS), dice.choice(_INOS)
    name, new = dice.choice(_NAMES), dice.choice(_NAMES)
    size, fh = dice.choice(_SIZES), dice.choice([*files._files, *files._directories, NOWHERE])
    fields = _fields(size=dice.random() < 0.6, mode=True, mtime=dice.random() < 0.5)
    attributes = _attributes(size=size, mode=0o644, mtime_ns=7)
    calls: list[tuple[str, list[object]]] = [
        ("lookup", [ino, name, CTX]),
        ("forget", [[(ino, dice.randrange(4))]]),
        ("create", [ino, name, 0o644, os.O_RDWR, CTX]),
        ("mknod", [ino, name, dice.choice([stat.S_IFREG, stat.S_IFIFO, 0o150000]), 0, CTX]),
        ("mkdir", [ino, name, 0o755, CTX]),
        ("symlink", [ino, name, b"t" * dice.choice([1, 600, 5000]), CTX]),
        ("link", [ino, other, name, CTX]),
        ("unlink", [ino, name, CTX]),
        ("rmdir", [ino, name, CTX]),
        ("rename", [ino, name, other, new, dice.choice([0, 1, 2, 3]), CTX]),
        ("setattr", [ino, attributes, fields, None, CTX]),
        ("open", [ino, dice.choice([os.O_RDWR, os.O_RDWR | os.O_TRUNC]), CTX]),
        ("read", [fh, size, dice.choice([0, 1, 4096, 1 << 20])]),
        ("write", [fh, size, bytes([dice.randrange(256)]) * dice.choice([1, 5000, 60_000])]),
        ("release", [fh]),
        ("opendir", [ino, CTX]),
        ("releasedir", [fh]),
        ("setxattr", [ino, b"user." + name, b"v" * dice.choice([0, 600, 70_000]), CTX]),
        ("removexattr", [ino, b"user." + name, CTX]),
    ]
    return dice.choice(calls)


@pytest.mark.parametrize("seed", range(2))
def test_anything_in_any_order(mount: Mount, seed: int) -> None:
    dice = random.Random(seed)
    answers: dict[str, set[object]] = {}
    for turn in range(3000):
        name, arguments = _anything(dice, mount.ops.files)
        found = mount.call(name, *arguments)
        answers.setdefault(name, set()).add(found if isinstance(found, str) else "done")
        assert found != "EIO", (turn, name, arguments)
        if turn % 500 == 0:
            mount.check()
    assert [name for name, seen in answers.items() if "done" not in seen] == []
