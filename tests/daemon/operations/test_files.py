"""Handles, offsets and sizes of any kind, and a mount that is full."""

import pytest

from anonfs.units import MAX_FILE_SIZE, PAGE_SIZE
from anonfs.vfs import ROOT
from tests.daemon.operations.mount import FRAMES, Mount
from tests.daemon.operations.requests import CTX, MOST, NOWHERE


@pytest.mark.parametrize("fh", [0, -1, NOWHERE, 1 << 64])
def test_handles_that_stand_for_nothing(mount: Mount, fh: int) -> None:
    directory = mount.call("opendir", ROOT, CTX)
    calls: list[tuple[object, ...]] = [
        ("flush", fh),
        ("fsync", fh, True),
        ("release", fh),
        ("readdir", fh, 0, None),
        ("releasedir", fh),
        ("fsyncdir", fh, False),
        ("flush", directory),
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
    assert mount.filesystem.opens == 0


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 20, (1 << 32) - 1])
@pytest.mark.parametrize("offset", [0, 5, 10, 11, MAX_FILE_SIZE, MOST, (1 << 64) - 1])
def test_reads_of_any_size_at_any_offset(mount: Mount, offset: int, size: int) -> None:
    fh = mount.open()
    mount.write(fh, 0, b"0123456789")
    assert mount.read(fh, offset, size) == b"0123456789"[offset : offset + size]


@pytest.mark.parametrize(
    ("offset", "answer"),
    [
        (MAX_FILE_SIZE, "EFBIG"),
        (MAX_FILE_SIZE - 1, "EFBIG"),
        (MOST - 1, "EFBIG"),
        (MOST, "EFBIG"),
        ((1 << 64) - 1, "EFBIG"),
    ],
)
def test_writes_at_absurd_offsets(mount: Mount, offset: int, answer: str) -> None:
    fh = mount.open()
    assert mount.write(fh, offset, b"xy") == answer
    assert mount.call("getattr", mount.inos[b"file"], CTX).st_size == 0
    assert mount.memory.frames.used == 0


def test_the_last_byte_that_a_file_can_have(overcommitted_mount: Mount) -> None:
    mount = overcommitted_mount
    fh = mount.open()
    assert mount.write(fh, MAX_FILE_SIZE - 2, b"xy") == 2
    assert mount.read(fh, MAX_FILE_SIZE - 3, 100) == b"\0xy"
    assert mount.call("getattr", mount.inos[b"file"], CTX).st_blocks == PAGE_SIZE // 512


def test_a_write_larger_than_the_budget(mount: Mount) -> None:
    fh = mount.open()
    mount.write(fh, 0, b"kept")
    assert mount.write(fh, 0, bytes((FRAMES + 1) * PAGE_SIZE)) == "ENOSPC"
    assert mount.read(fh, 0, 10) == b"kept"


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
        assert mount.read(fh, offset, len(chunk)) == chunk
    assert mount.set_attributes(mount.inos[b"file"], size=done - 1).st_size == done - 1


@pytest.mark.parametrize("name", [b"dir", b"link", b"fifo"])
def test_what_has_no_pages_is_neither_read_nor_written(mount: Mount, name: bytes) -> None:
    fh = mount.open(name)
    assert not mount.paged.paging.serves(mount.inos[name])
    assert mount.read(fh, 0, 10) == mount.write(fh, 0, b"x") == "EINVAL"


@pytest.mark.parametrize("ino", [0, NOWHERE, (1 << 64) - 1])
def test_faults_of_inodes_that_are_not_there(mount: Mount, ino: int) -> None:
    assert not mount.paged.paging.serves(ino)
    assert mount.paged.read(ino, 0, 10) == mount.paged.write(ino, 0, b"x") == "ESTALE"


def test_statfs(mount: Mount) -> None:
    mount.write(mount.open(), 0, b"x" * 5 * PAGE_SIZE)
    found = mount.call("statfs", CTX)
    assert found.f_blocks == 3 * FRAMES
    assert found.f_bfree == found.f_bavail == 3 * FRAMES - 5
