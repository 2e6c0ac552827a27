"""Inodes by number: stale ones, and how long lookups keep one."""

import os

import pytest

from anonfs.vfs import ROOT
from tests.daemon.operations.mount import Mount
from tests.daemon.operations.requests import CTX, MOST, NOWHERE, entry_attributes, setattr_fields


@pytest.mark.parametrize("ino", [0, NOWHERE, -1, MOST])
def test_stale_inodes(mount: Mount, ino: int) -> None:
    calls: list[tuple[object, ...]] = [
        ("getattr", ino, CTX),
        ("setattr", ino, entry_attributes(), setattr_fields(), None, CTX),
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
