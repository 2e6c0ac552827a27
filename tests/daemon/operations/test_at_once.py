"""Requests as the kernel makes them, and the bytes that it gets: the layouts of linux/fuse.h."""

import errno
import os
import stat
import struct

import pytest
import trio

from anonfs.errors import AnonfsError
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT
from anonfsd._at_once import AtOnce, Requester, WaitsError
from tests.daemon.operations.fakes import Broken
from tests.daemon.operations.mount import Mount

_LOOKUP, _FORGET, _GETATTR, _SETATTR, _READLINK, _MKDIR, _UNLINK = 1, 2, 3, 4, 5, 9, 10
_RMDIR, _RENAME, _LINK, _OPEN, _STATFS, _RENAME2 = 11, 12, 13, 14, 17, 45
_RELEASE, _FSYNC, _GETXATTR, _FLUSH, _CREATE, _BATCH_FORGET = 18, 20, 22, 25, 35, 42
_MODE, _SIZE, _MTIME = 1 << 0, 1 << 3, 1 << 5
_NODE = 1 << 62
_ATTR = "QQQqqqIIIIIIIIII"
_REQUESTER = Requester(7, 8, 1)


class Asked:
    """The requests of user 7, each answered before the next."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount
        self.at_once = AtOnce(mount.ops, mount.paged.lock)

    def call(self, opcode: int, ino: int, body: bytes = b"") -> bytes:
        """The answer; raises OSError."""
        assert self.at_once.serves(opcode, ino)
        error, answer = self.at_once.answer(opcode, ino, _REQUESTER, memoryview(body))
        if error:
            raise OSError(error, os.strerror(error))
        assert answer is not None or opcode in {_FORGET, _BATCH_FORGET}
        return answer or b""

    def create(self, name: bytes) -> tuple[int, int]:
        """The inode number and the handle of a new file, whose entry is checked."""
        answer = self.call(_CREATE, ROOT, struct.pack("=IIII", os.O_RDWR, 0o100640, 0, 0) + name)
        number, generation, *validity = struct.unpack_from("=QQQQII", answer)
        assert (generation, validity) == (0, [300, 300, 0, 0])
        attributes = struct.unpack_from("=" + _ATTR, answer, 40)
        assert attributes[0] == number
        assert attributes[9:] == (stat.S_IFREG | 0o640, 1, 7, 8, 0, PAGE_SIZE, 0)
        handle, flags, _ = struct.unpack_from("=QII", answer, 40 + 88)
        assert flags == 1 << 1, "FOPEN_KEEP_CACHE"
        assert len(answer) == 40 + 88 + 16
        return number, handle

    def set_attributes(self, ino: int, valid: int, size: int, mtime: int, mode: int) -> bytes:
        times = 0, mtime // 10**9, 0, 0, mtime % 10**9, 0
        return self.call(
            _SETATTR,
            ino,
            struct.pack("=IIQqQqqqIIIIIIII", valid, 0, 0, size, 0, *times, mode, 0, 1, 2, 0),
        )


@pytest.fixture
def asked(mount: Mount) -> Asked:
    return Asked(mount)


def test_the_life_of_a_segment(asked: Asked) -> None:
    mount = asked.mount
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        asked.call(_LOOKUP, ROOT, b"a\0")
    ino, first = asked.create(b"a\0")
    inode = mount.filesystem.inode(ino)
    mtime = -1_000_000_001  # before the epoch
    answer = asked.set_attributes(ino, _SIZE | _MODE | _MTIME, 2 * PAGE_SIZE, mtime, 0o600)
    assert struct.unpack_from("=QII", answer) == (300, 0, 0)
    attributes = struct.unpack_from("=" + _ATTR, answer, 16)
    assert attributes[:3] == (ino, 2 * PAGE_SIZE, 0)
    assert (attributes[4], attributes[7]) == (-2, 999_999_999)
    assert (inode.uid, inode.gid, inode.mtime) == (7, 8, mtime)
    assert asked.call(_GETATTR, ino) == answer
    assert asked.call(_LOOKUP, ROOT, b"a\0")[40:] == answer[16:]
    second, flags, _ = struct.unpack("=QII", asked.call(_OPEN, ino, struct.pack("=II", 2, 0)))
    assert (second != first, flags) == (True, 1 << 1)
    assert asked.call(_UNLINK, ROOT, b"a\0") == b""
    for handle in (first, second):
        assert asked.call(_FLUSH, ino, struct.pack("=QIIQ", handle, 0, 0, 0)) == b""
        assert asked.call(_FSYNC, ino, struct.pack("=QII", handle, 1, 0)) == b""
        assert asked.call(_RELEASE, ino, struct.pack("=QIIQ", handle, 0, 0, 0)) == b""
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        asked.call(_FLUSH, ino, struct.pack("=QIIQ", first, 0, 0, 0))
    assert mount.rings.dropped == [ino]
    assert inode.lookups == 2
    asked.call(_FORGET, ino, struct.pack("=Q", 1))
    asked.call(_BATCH_FORGET, 0, struct.pack("=IIQQQQ", 2, 0, ino, 1, 999, 1))
    assert ino not in mount.filesystem.inodes


def test_names_are_made_and_moved(asked: Asked) -> None:
    root = asked.mount.filesystem.inode(ROOT).directory
    assert root is not None
    made = asked.call(_MKDIR, ROOT, struct.pack("=II", 0o750, 0) + b"d\0")
    (ino,) = struct.unpack_from("=Q", made)
    directory = asked.mount.filesystem.inode(ino)
    assert (directory.mode, directory.uid, directory.gid) == (stat.S_IFDIR | 0o750, 7, 8)
    linked = asked.call(_LINK, ino, struct.pack("=Q", asked.mount.inos[b"file"]) + b"l\0")
    assert struct.unpack_from("=Q", linked) == (asked.mount.inos[b"file"],)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        asked.call(_RMDIR, ROOT, b"d\0")
    asked.call(_RENAME2, ino, struct.pack("=QII", ROOT, 2, 0) + b"l\0fifo\0")
    with pytest.raises(OSError, match=os.strerror(errno.EEXIST)):
        asked.call(_RENAME2, ino, struct.pack("=QII", ROOT, 1, 0) + b"l\0file\0")
    asked.call(_RENAME, ino, struct.pack("=Q", ROOT) + b"l\0moved\0")
    assert root.find(b"moved") == asked.mount.inos[b"fifo"]
    assert root.find(b"fifo") == asked.mount.inos[b"file"]
    assert asked.call(_RMDIR, ROOT, b"d\0") == b""
    with pytest.raises(OSError, match=os.strerror(errno.EEXIST)):
        asked.call(_RENAME, ROOT, struct.pack("=Q", ROOT) + b"file\0.anonfs\0")


def test_space_and_the_attributes_of_others(asked: Asked) -> None:
    found = struct.unpack("=QQQQQIIII24x", asked.call(_STATFS, ROOT))
    space = asked.mount.filesystem.promising
    assert found[:3] == (space.capacity, space.free, space.free)
    assert found[5:] == (PAGE_SIZE, 255, PAGE_SIZE, 0)
    ino = asked.mount.inos[b"file"]
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        asked.call(_GETXATTR, ino, struct.pack("=II", 9, 0) + b"security.capability\0")
    asked.mount.filesystem.xattrs.set(asked.mount.filesystem.inode(ino), b"user.a", b"value")
    assert asked.call(_GETXATTR, ino, struct.pack("=II", 5, 0) + b"user.a\0") == b"value"
    assert asked.call(_GETXATTR, ino, struct.pack("=II", 0, 0) + b"user.a\0") == b"\5" + bytes(7)
    with pytest.raises(OSError, match=os.strerror(errno.ERANGE)):
        asked.call(_GETXATTR, ino, struct.pack("=II", 4, 0) + b"user.a\0")


def test_what_may_wait_is_for_others(asked: Asked) -> None:
    ino = asked.mount.inos[b"file"]
    assert not asked.at_once.serves(_READLINK, ino)
    assert not asked.at_once.serves(_OPEN, _NODE | 1)
    asked.set_attributes(ino, _SIZE, 5000, 0, 0)
    with pytest.raises(WaitsError):
        asked.set_attributes(ino, _SIZE, 4999, 0, 0)
    with pytest.raises(WaitsError):
        asked.call(_GETXATTR, ino, struct.pack("=II", 9, 0) + b"user.anonfs.kind\0")
    with pytest.raises(WaitsError):
        asked.set_attributes(ino, _SIZE, 1 << 50, 0, 0)
    assert asked.mount.filesystem.inode(ino).size == 5000


def test_a_handler_that_waits_all_the_same_ends_the_mount(
    failing_mount: Mount, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = Asked(failing_mount)

    async def wait(*_: object) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()

    monkeypatch.setattr(failing_mount.ops, "getattr", wait)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        asked.call(_GETATTR, ROOT)
    assert failing_mount.failures == 1
    assert "a handler waits" in caplog.text
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        asked.call(_LOOKUP, ROOT, b"file\0")


@pytest.mark.parametrize(
    ("error", "number"), [(AnonfsError(errno.EMFILE), errno.EMFILE), (KeyError("x"), errno.EIO)]
)
def test_whatever_goes_wrong_is_answered(
    failing_mount: Mount, error: Exception, number: int
) -> None:
    asked = Asked(failing_mount)
    failing_mount.ops.filesystem = Broken(error)
    with pytest.raises(OSError, match=os.strerror(number)):
        asked.call(_STATFS, ROOT)
    with pytest.raises(OSError, match=os.strerror(number)):
        asked.call(_UNLINK, ROOT, b"file\0")
    assert failing_mount.failures == 0
