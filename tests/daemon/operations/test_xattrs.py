"""Extended attributes: foreign, too large, and the daemon's own."""

import pytest

from tests.daemon.operations.fakes import FakeInspection
from tests.daemon.operations.mount import Mount
from tests.daemon.operations.requests import CTX, USER


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
