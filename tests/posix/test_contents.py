"""Reading, writing and cutting: ends, holes, and every byte again once the page cache is gone."""

import mmap
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.units import MAX_FILE_SIZE, PAGE_SIZE
from tests.posix.descriptors import descriptor
from tests.posix.reference import (
    as_on_tmpfs,
    compare,
    forget_pages,
    names,
    opened,
    outcome,
    times_changed,
)
from tests.support.mounts import Mounted


def _again(fd: int) -> bytes:
    """All bytes of a file as the daemon has them."""
    forget_pages(fd)
    return os.pread(fd, os.fstat(fd).st_size + 1, 0)


@as_on_tmpfs
def test_reads_at_and_beyond_the_end(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        os.write(fd, b"12345")
        places = 0, 4, 5, 6, PAGE_SIZE, 1 << 40, MAX_FILE_SIZE
        return [outcome(os.pread, fd, 10, at) for at in places], os.read(fd, 5)


@as_on_tmpfs
def test_a_write_beyond_the_end_leaves_a_hole(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        os.write(fd, b"head")
        os.pwrite(fd, b"tail", 5 * PAGE_SIZE - 2)
        os.lseek(fd, 2, os.SEEK_END)
        os.write(fd, b"further")
        return _again(fd), os.fstat(fd).st_size, os.fstat(fd).st_blocks


@as_on_tmpfs
def test_writes_of_nothing(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        done = os.write(fd, b""), os.pwrite(fd, b"", 100)
        return done, os.fstat(fd).st_size


@as_on_tmpfs
def test_vectors(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        written = os.pwritev(fd, [b"a" * 3000, b"", b"b" * 3000, b"c"], 1000)
        parts = [bytearray(10), bytearray(5000), bytearray(5000)]
        read = os.preadv(fd, parts, 995)
        return written, read, [bytes(part) for part in parts], _again(fd)


@as_on_tmpfs
def test_cut_and_grown(directory: Path) -> object:
    sizes = (
        3 * PAGE_SIZE,
        3 * PAGE_SIZE - 7,
        5000,
        9000,
        100,
        0,
        1,
        20_000,
        PAGE_SIZE,
        4 * PAGE_SIZE,
    )
    record = []
    with descriptor(directory / "f") as fd:
        os.write(fd, b"x" * 4 * PAGE_SIZE)
        for size in sizes:
            os.ftruncate(fd, size)
            record.append((os.fstat(fd).st_size, os.fstat(fd).st_blocks, os.pread(fd, 40_000, 0)))
            record.append((0, 0, _again(fd)))
        return record


@as_on_tmpfs
def test_truncate_errors(directory: Path) -> object:
    (directory / "d").mkdir()
    (directory / "f").touch()
    os.mkfifo(directory / "fifo")
    (directory / "l").symlink_to("l")
    names = "d", "missing", "f/x", "fifo", "l"
    record = {name: outcome(os.truncate, directory / name, 10) for name in names}
    record["negative"] = outcome(os.truncate, directory / "f", -1)
    record["on a directory's descriptor"] = opened(directory / "d", os.O_WRONLY)
    return record


def test_no_size_beyond_the_limit(mount_factory: Callable[..., Mounted]) -> None:
    with descriptor(mount_factory(overcommit=True).path / "f") as fd:
        assert outcome(os.ftruncate, fd, MAX_FILE_SIZE) is None
        for size in (MAX_FILE_SIZE + 1, 1 << 62, (1 << 63) - 1):
            assert outcome(os.ftruncate, fd, size) == "EFBIG"
        assert outcome(os.pwrite, fd, b"x", MAX_FILE_SIZE) == "EFBIG"
        assert outcome(os.pwrite, fd, b"xy", MAX_FILE_SIZE - 1) in {1, "EFBIG"}
        assert os.fstat(fd).st_size == MAX_FILE_SIZE


def test_a_sparse_file_of_16_tebibytes(mount_factory: Callable[..., Mounted]) -> None:
    size = 16 << 40
    with descriptor(mount_factory(overcommit=True).path / "f") as fd:
        os.ftruncate(fd, size)
        assert os.fstat(fd).st_blocks == 0
        os.pwrite(fd, b"last page" * 100, size - PAGE_SIZE)
        os.pwrite(fd, b"middle", size // 2)
        assert os.fstat(fd).st_blocks == 2 * PAGE_SIZE // 512
        forget_pages(fd)
        assert os.pread(fd, PAGE_SIZE, size - PAGE_SIZE)[:900] == b"last page" * 100
        assert os.pread(fd, 8, size // 2 - 2) == b"\0\0middle"
        assert os.pread(fd, 100, size // 4) == bytes(100)
        os.ftruncate(fd, size // 2)
        assert os.fstat(fd).st_blocks == 0


def test_fallocate_promises_pages_and_makes_none(shared_mount: Path) -> None:
    with descriptor(shared_mount / "f") as fd:
        os.pwrite(fd, b"kept", 5000)
        os.posix_fallocate(fd, 0, 10 * PAGE_SIZE)
        assert os.fstat(fd).st_size == 10 * PAGE_SIZE
        assert os.fstat(fd).st_blocks == PAGE_SIZE // 512
        assert os.getxattr(fd, "user.anonfs.reserved") == b"pages=10"
        assert os.pread(fd, 4, 5000) == b"kept"
        os.posix_fallocate(fd, 0, PAGE_SIZE)
        assert os.fstat(fd).st_size == 10 * PAGE_SIZE


def test_fallocate_makes_the_pages_where_sizes_are_free(
    mount_factory: Callable[..., Mounted],
) -> None:
    with descriptor(mount_factory(overcommit=True).path / "f") as fd:
        os.pwrite(fd, b"kept", 5000)
        os.posix_fallocate(fd, 0, 10 * PAGE_SIZE)
        assert os.fstat(fd).st_blocks == 10 * PAGE_SIZE // 512
        assert os.pread(fd, 4, 5000) == b"kept"


@as_on_tmpfs
def test_posix_fallocate_sizes(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        return [
            (outcome(os.posix_fallocate, fd, offset, size), os.fstat(fd).st_size)
            for offset, size in ((0, 0), (0, -1), (-1, 10), (10_000, 5), (0, 8192))
        ]


@as_on_tmpfs
def test_data_stays_while_an_unlinked_file_is_open(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        os.write(fd, b"before " * 2000)
        (directory / "f").unlink()
        forget_pages(fd)
        os.pwrite(fd, b"after", 20_000)
        os.ftruncate(fd, 30_000)
        record = [_again(fd), os.fstat(fd).st_nlink, names(directory)]
        os.ftruncate(fd, 3)
        os.fchmod(fd, 0o640)
        return [*record, _again(fd), os.fstat(fd).st_mode, os.fstat(fd).st_blocks]


@as_on_tmpfs
def test_data_stays_while_a_replaced_file_is_open(directory: Path) -> object:
    with descriptor(directory / "f") as fd:
        os.write(fd, b"old" * 5000)
        (directory / "new").write_bytes(b"new" * 3000)
        (directory / "new").rename(directory / "f")
        forget_pages(fd)
        os.pwrite(fd, b"!", 0)
        other = directory / "f"
        forget_pages(other)
        return _again(fd), os.fstat(fd).st_nlink, other.read_bytes(), names(directory)


@as_on_tmpfs
def test_a_new_file_of_an_old_name_has_none_of_its_bytes(directory: Path) -> object:
    path = directory / "f"
    record = []
    for turn in range(4):
        path.write_bytes(b"%d" % turn * 9000)
        forget_pages(path)
        path.unlink()
        os.close(os.open(path, os.O_CREAT | os.O_RDWR))
        os.truncate(path, 9000)
        forget_pages(path)
        record.append(path.read_bytes())
        path.unlink()
    return record


@as_on_tmpfs
def test_sendfile_and_copies(directory: Path) -> object:
    source = directory / "source"
    source.write_bytes(random.Random(7).randbytes(300_000))
    forget_pages(source)
    with source.open("rb") as read, (directory / "copy").open("w+b") as copy:
        sent = 0
        while done := os.sendfile(copy.fileno(), read.fileno(), sent, 100_000):
            sent += done
        forget_pages(copy.fileno())
        equal = os.pread(copy.fileno(), 400_000, 0) == source.read_bytes()
    with source.open("rb") as read, tempfile.TemporaryFile() as elsewhere:
        out = os.sendfile(elsewhere.fileno(), read.fileno(), 299_000, 5000)
        tail = os.pread(elsewhere.fileno(), 5000, 0)
    with source.open("rb") as read, (directory / "copy").open("w+b") as copy:
        copied = os.copy_file_range(read.fileno(), copy.fileno(), 10_000, 5, 100)
        forget_pages(copy.fileno())
        return sent, equal, out, tail, copied, os.pread(copy.fileno(), 20_000, 0)


@as_on_tmpfs
def test_direct_io_and_the_page_cache_agree(directory: Path) -> object:
    with mmap.mmap(-1, 4 * PAGE_SIZE) as page, descriptor(directory / "f") as fd:
        page.write(b"direct" * 2730)
        os.write(fd, b"buffered" * 3072)
        with descriptor(directory / "f", os.O_RDWR | os.O_DIRECT) as direct:
            with memoryview(page) as view:
                seen = os.preadv(direct, [view[: 2 * PAGE_SIZE]], 0), bytes(view[:16])
                view[:PAGE_SIZE] = b"D" * PAGE_SIZE
                wrote = os.pwritev(direct, [view[:PAGE_SIZE]], PAGE_SIZE)
                beyond = os.preadv(direct, [view], 8 * PAGE_SIZE)
                end = os.preadv(direct, [view], 5 * PAGE_SIZE)
            return seen, wrote, beyond, end, os.pread(fd, 30_000, 0), _again(fd)


@pytest.mark.parametrize(
    "write",
    [
        lambda fd: os.pwrite(fd, b"x", 0),
        lambda fd: os.pwrite(fd, b"x", 9000),
        lambda fd: os.ftruncate(fd, 50),
        lambda fd: os.ftruncate(fd, 50_000),
        lambda fd: os.pread(fd, 10, 0) and None,
        os.fsync,
    ],
    ids=["overwrite", "append", "cut", "grow", "read", "fsync"],
)
def test_times(shared_mount: Path, tmpfs: Path, write: Callable[[int], object]) -> None:
    def scenario(directory: Path) -> object:
        with descriptor(directory / "f") as fd:
            os.write(fd, b"y" * 100)
            return times_changed(lambda: write(fd), directory / "f", directory)

    compare(scenario, shared_mount, tmpfs)


def test_reading_leaves_atime(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.write_bytes(b"x" * 10)
    os.utime(path, ns=(1, 2))
    forget_pages(path)
    path.read_bytes()
    assert path.stat().st_atime_ns == 1
