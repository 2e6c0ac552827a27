"""Names that are bad, taken, or below what is no directory."""

import os
import stat

import pytest

from anonfs.vfs import ROOT
from tests.daemon.operations.mount import Mount
from tests.daemon.operations.requests import CTX, MOST, NOWHERE

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


@pytest.mark.parametrize(("name", "answer"), BAD_NAMES)
def test_bad_names(mount: Mount, name: bytes, answer: str) -> None:
    file = mount.inos[b"file"]
    names = sorted(entry[2] for entry in mount.image.names.walk())
    if name != b"/":
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


def test_a_file_without_a_name(mount: Mount) -> None:
    """What the kernel calls an O_TMPFILE: it goes with its last open."""
    names = sorted(entry[2] for entry in mount.image.names.walk())
    opened, entry = mount.call("create", ROOT, b"/", 0o644, os.O_RDWR | os.O_TMPFILE, CTX)
    assert (entry.st_nlink, entry.st_mode, entry.st_uid) == (0, stat.S_IFREG | 0o644, CTX.uid)
    assert mount.filesystem.inode(entry.st_ino).opens == 1
    assert names == sorted(entry[2] for entry in mount.image.names.walk())
    mount.call("release", opened.fh)
    mount.call("forget", [(entry.st_ino, 1)])
    assert entry.st_ino not in mount.filesystem.inodes


@pytest.mark.parametrize(("name", "answer"), BAD_NAMES)
def test_looking_up_bad_names(mount: Mount, name: bytes, answer: str) -> None:
    found = mount.call("lookup", ROOT, name, CTX)
    if name in {b".", b".."}:
        assert found.st_ino == ROOT
    else:
        assert found == answer


@pytest.mark.parametrize("parent", [0, NOWHERE, -1, MOST, 1 << 64])
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
