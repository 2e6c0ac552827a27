"""Extended attributes, those of the daemon among them."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from tests.posix.reference import as_on_tmpfs, facts, outcome, times_changed

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE
_LARGEST = 65536


@pytest.fixture(autouse=True)
def _reference_has_xattrs(tmpfs: Path) -> None:
    if outcome(os.setxattr, tmpfs, "user.probe", b"x") == "ENOTSUP":
        pytest.skip("this kernel's tmpfs has no user attributes")
    os.removexattr(tmpfs, "user.probe")


def _all(path: Path) -> dict[str, bytes]:
    names = [name for name in os.listxattr(path) if name.startswith(("user.", "trusted."))]
    return {
        name: os.getxattr(path, name)
        for name in sorted(names)
        if not name.startswith("user.anonfs.")
    }


@as_on_tmpfs
def test_set_replace_remove(directory: Path) -> object:
    file, inner = directory / "f", directory / "d"
    file.touch()
    inner.mkdir()
    record: list[object] = []
    for path in (file, inner):
        for name, value, flags in (
            ("user.a", b"1", 0),
            ("user.a", b"2", CREATE),
            ("user.a", b"3", REPLACE),
            ("user.b", b"4", REPLACE),
            ("user.b", b"5", CREATE),
            ("user.b", b"", 0),
            ("user.a", b"6", CREATE | REPLACE),
            ("trusted.t", b"7", 0),
            ("user.bin", bytes(range(256)), 0),
            ("user.ä", b"9", 0),
        ):
            record.append((name, flags, outcome(os.setxattr, path, name, value, flags)))
            record.append(_all(path))
        record += [outcome(os.removexattr, path, name) for name in ("user.a", "user.a", "user.no")]
        record += [outcome(os.getxattr, path, name) for name in ("user.a", "user.no", "user.b")]
        record.append(_all(path))
    return record


@as_on_tmpfs
def test_sizes(directory: Path) -> object:
    file = directory / "f"
    file.touch()
    record: list[object] = []
    for size in (0, 1, 480, 496, 4096, _LARGEST - 1, _LARGEST):
        value = os.urandom(1) * size
        record.append(outcome(os.setxattr, file, f"user.{size}", value))
        record.append(os.getxattr(file, f"user.{size}") == value)
    record.append(outcome(os.setxattr, file, "user.more", bytes(_LARGEST + 1)))
    record += [
        outcome(os.setxattr, file, "user." + "n" * length, b"x") for length in (250, 251, 1000)
    ]
    return record, len(_all(file))


@as_on_tmpfs
def test_they_go_with_the_inode_and_not_with_the_name(directory: Path) -> object:
    file = directory / "f"
    file.touch()
    os.setxattr(file, "user.a", b"kept")
    (directory / "link").hardlink_to(file)
    (directory / "other").touch()
    (directory / "other").rename(file)
    return _all(directory / "link"), _all(file)


@as_on_tmpfs
def test_what_can_have_them(directory: Path) -> object:
    os.mkfifo(directory / "fifo")
    (directory / "link").symlink_to("fifo")
    calls = [
        outcome(os.setxattr, directory / name, attribute, b"x", follow_symlinks=False)
        for name in ("fifo", "link")
        for attribute in ("user.a", "trusted.a")
    ]
    names = "bare", "system.none", "foreign.a", "user", "user.", "trusted."
    return calls, [outcome(os.setxattr, directory, name, b"x") for name in names]


@as_on_tmpfs
def test_times(directory: Path) -> object:
    file = directory / "f"
    file.touch()
    return [
        times_changed(lambda: os.setxattr(file, "user.a", b"x"), file),
        times_changed(lambda: os.getxattr(file, "user.a"), file),
        times_changed(lambda: os.listxattr(file) and None, file),
        times_changed(lambda: os.removexattr(file, "user.a"), file),
        times_changed(lambda: os.removexattr(file, "user.a"), file),
    ]


def test_a_small_buffer_is_refused(shared_mount: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    path = os.fsencode(shared_mount / "f")
    Path(os.fsdecode(path)).touch()
    os.setxattr(path, b"user.a", b"12345")
    buffer = bytearray(5)
    area = (ctypes.c_char * 5).from_buffer(buffer)
    assert libc.getxattr(path, b"user.a", None, 0) == 5
    assert libc.getxattr(path, b"user.a", area, 4) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert libc.getxattr(path, b"user.a", area, 5) == 5
    assert buffer == b"12345"
    assert libc.listxattr(path, area, 5) == -1
    assert ctypes.get_errno() == errno.ERANGE
    del area


def test_there_is_an_end_to_them(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.touch()
    stored = 0
    while outcome(os.setxattr, path, f"user.{stored}", bytes(_LARGEST)) is None:
        stored += 1
        assert stored <= 16, "attributes beyond 1 MiB were taken"
    assert stored == 15
    assert outcome(os.setxattr, path, "user.one", bytes(_LARGEST)) == "ENOSPC"
    assert os.getxattr(path, "user.0") == bytes(_LARGEST)
    os.removexattr(path, "user.0")
    os.setxattr(path, "user.one", bytes(_LARGEST))


def test_the_daemons_own(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.write_bytes(b"x" * 5000)
    listed = {name for name in os.listxattr(path) if name.startswith("user.anonfs.")}
    read_only = {
        "attaches",
        "count",
        "kind",
        "pagemap",
        "pages",
        "parent",
        "front",
        "reserved",
        "ring",
    }
    names = read_only | {"lock", "reap", "swapout"}
    assert listed == {f"user.anonfs.{name}" for name in names}
    assert os.getxattr(path, "user.anonfs.kind") == b"shared"
    assert os.getxattr(path, "user.anonfs.pages") == b"total=2 none=0 in_core=2 on_swap=0 front=0"
    assert os.getxattr(path, "user.anonfs.pagemap") == b"0-1 in_core\n"
    for name in read_only:
        assert outcome(os.setxattr, path, f"user.anonfs.{name}", b"1") == "EPERM"
    assert outcome(os.getxattr, path, "user.anonfs.swapout") == "EPERM"
    assert outcome(os.removexattr, path, "user.anonfs.ring") == "EPERM"
    assert outcome(os.setxattr, path, "user.anonfs.new", b"1") == "EPERM"
    assert outcome(os.getxattr, path, "user.anonfs.new") == "ENODATA"
    assert outcome(os.getxattr, shared_mount, "user.anonfs.pages") == "ENODATA"
    assert outcome(os.setxattr, shared_mount, "user.anonfs.swapout", b"all") == "EPERM"
    for bad in (b"", b"some", b"1-0", b"0-2", b"-1-1", b"0-99999999999999999", b"0 - 1", b"\xff"):
        assert outcome(os.setxattr, path, "user.anonfs.swapout", bad) == "EINVAL", bad
    os.setxattr(path, "user.anonfs.swapout", b"1-1")
    assert os.getxattr(path, "user.anonfs.pagemap") == b"0-0 in_core\n1-1 on_swap\n"
    assert facts(path)["st_size"] == 5000
