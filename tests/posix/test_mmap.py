"""Mappings: coherence with read and write, and what becomes of them as the file changes."""

import contextlib
import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, hear, in_child, say
from tests.posix.descriptors import descriptor
from tests.posix.memory import READ, Mapping
from tests.posix.reference import as_on_tmpfs, facts, forget_pages, outcome, tick

_MADV_DONTNEED, _MADV_REMOVE = 4, 9


@contextlib.contextmanager
def _mapping(fd: int, pages: int, flags: int = mmap.MAP_SHARED) -> Iterator[Mapping]:
    mapping = Mapping(fd, pages * PAGE_SIZE, flags=flags)
    try:
        yield mapping
    finally:
        mapping.unmap()


@contextlib.contextmanager
def _mapped(path: Path, pages: int, flags: int = mmap.MAP_SHARED) -> Iterator[tuple[int, Mapping]]:
    """A file of ``pages`` pages, open and mapped."""
    with descriptor(path) as fd:
        os.ftruncate(fd, pages * PAGE_SIZE)
        with _mapping(fd, pages, flags) as mapping:
            yield fd, mapping


@as_on_tmpfs
def test_shared_both_ways(directory: Path) -> object:
    with _mapped(directory / "f", 4) as (fd, mapping):
        record = [mapping.read(PAGE_SIZE, 10)]
        os.pwrite(fd, b"written", PAGE_SIZE + 3)
        record.append(mapping.read(PAGE_SIZE, 12))
        mapping.write(3 * PAGE_SIZE - 3, b"stored")
        record.append(os.pread(fd, 10, 3 * PAGE_SIZE - 5))
        forget_pages(fd)
        record += [mapping.read(0, 4 * PAGE_SIZE), os.pread(fd, 5 * PAGE_SIZE, 0)]
        mapping.write(0, b"after")
        os.pwrite(fd, b"ward", 5)
        forget_pages(fd)
        return [*record, mapping.read(0, 12)]


@as_on_tmpfs
def test_private_is_not_written_through(directory: Path) -> object:
    path = directory / "f"
    path.write_bytes(b"file" * 3000)
    with _mapped(path, 3, mmap.MAP_PRIVATE) as (fd, mapping):
        mapping.write(0, b"mine")
        forget_pages(fd)
        os.pwrite(fd, b"theirs", 1)
        os.pwrite(fd, b"theirs", PAGE_SIZE + 1)
        mine, theirs = mapping.read(0, 10), mapping.read(PAGE_SIZE, 10)
        mapping.advise(_MADV_DONTNEED)
        return mine, theirs, mapping.read(0, 10), os.pread(fd, 10, 0)


@as_on_tmpfs
def test_a_child_shares_and_copies(directory: Path) -> object:
    path = directory / "f"
    with (
        _mapped(path, 2) as (_, shared),
        _mapped(path, 2, mmap.MAP_PRIVATE) as (_, private),
    ):
        private.write(PAGE_SIZE, b"before fork")

        def child() -> object:
            seen = private.read(PAGE_SIZE, 11)
            shared.write(0, b"from child")
            private.write(PAGE_SIZE, b"CHILD")
            return seen, shared.read(0, 10)

        return in_child(child), shared.read(0, 10), private.read(PAGE_SIZE, 11)


@as_on_tmpfs
def test_data_stays_mapped_after_the_last_name_and_descriptor(directory: Path) -> object:
    path, other = directory / "f", directory / "g"
    with _mapped(path, 8) as (fd, mapping):
        mapping.write(0, b"kept" * 8192)
        path.unlink()
        forget_pages(fd)
        nlink = os.fstat(fd).st_nlink
        other.write_bytes(b"other" * 8192)
        forget_pages(other)
        first = mapping.read(0, 8 * PAGE_SIZE)
        mapping.write(5, b"!")
        forget_pages(fd)
        return first, mapping.read(0, 12), nlink


@as_on_tmpfs
def test_data_stays_mapped_after_a_rename_over_it(directory: Path) -> object:
    path, other = directory / "f", directory / "g"
    other.write_bytes(b"new" * 3000)
    with _mapped(path, 2) as (fd, mapping):
        mapping.write(0, b"old" * 2000)
        other.rename(path)
        forget_pages(fd)
        forget_pages(path)
        mapping.write(6000, b"still")
        forget_pages(fd)
        return mapping.read(0, 2 * PAGE_SIZE), path.read_bytes(), facts(path)


@pytest.mark.parametrize("cut", [0, 1, PAGE_SIZE, PAGE_SIZE + 1])
def test_beyond_the_end_is_a_bus_error(shared_mount: Path, cut: int) -> None:
    path = shared_mount / "f"
    path.write_bytes(b"x" * 3 * PAGE_SIZE)
    page_beyond = (cut + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE

    def child() -> None:
        fd = os.open(path, os.O_RDWR)
        mapping = Mapping(fd, 4 * PAGE_SIZE)
        say(mapping.read(0, 1))
        hear()
        say(mapping.read(0, cut))
        say(mapping.read(page_beyond, 1))

    with Child(child) as process:
        assert process.said() == b"x"
        os.truncate(path, cut)
        process.tell()
        assert process.said() == b"x" * cut
        assert process.wait() == -signal.SIGBUS
    assert path.read_bytes() == b"x" * cut


def test_a_file_that_grows_under_its_mapping_is_there(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.write_bytes(b"x" * 10)
    with descriptor(path) as fd, _mapping(fd, 4) as mapping:
        assert mapping.read(0, 12) == b"x" * 10 + b"\0\0"
        os.ftruncate(fd, 4 * PAGE_SIZE)
        assert mapping.read(3 * PAGE_SIZE, 5) == bytes(5)
        mapping.write(3 * PAGE_SIZE, b"grown")
        forget_pages(fd)
        assert os.pread(fd, 5, 3 * PAGE_SIZE) == b"grown"


def test_what_is_stored_past_the_end_reads_as_zeros(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.write_bytes(b"x" * 100)
    with descriptor(path) as fd, _mapping(fd, 1) as mapping:
        mapping.write(50, b"y" * 100)
        mapping.sync()
        os.ftruncate(fd, 200)
        assert os.pread(fd, 300, 0) == b"x" * 50 + b"y" * 50 + bytes(100)
        forget_pages(fd)
        assert mapping.read(0, 200) == b"x" * 50 + b"y" * 50 + bytes(100)


@as_on_tmpfs
def test_cut_and_grown_under_a_mapping(directory: Path) -> object:
    with _mapped(directory / "f", 3) as (fd, mapping):
        mapping.write(0, b"z" * 3 * PAGE_SIZE)
        os.ftruncate(fd, PAGE_SIZE + 10)
        os.ftruncate(fd, 3 * PAGE_SIZE)
        cut = mapping.read(0, 3 * PAGE_SIZE)
        forget_pages(fd)
        return cut, mapping.read(0, 3 * PAGE_SIZE)


@as_on_tmpfs
def test_rights(directory: Path) -> object:
    path = directory / "f"
    path.write_bytes(bytes(PAGE_SIZE))
    record = []
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        with descriptor(path, flags) as fd:
            for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
                for protection in (READ, mmap.PROT_WRITE, READ | mmap.PROT_WRITE):

                    def attempt(
                        fd: int = fd, kind: int = kind, protection: int = protection
                    ) -> None:
                        Mapping(fd, PAGE_SIZE, flags=kind, protection=protection).unmap()

                    record.append(outcome(attempt))
    return record


def test_msync_takes_the_data_to_the_daemon_and_stamps_the_file(shared_mount: Path) -> None:
    path = shared_mount / "f"
    with _mapped(path, 300) as (fd, mapping):
        assert (
            os.getxattr(path, "user.anonfs.pages")
            == b"total=300 none=300 in_core=0 on_swap=0 front=0"
        )
        tick(path)
        before = os.fstat(fd)
        mapping.write(7 * PAGE_SIZE, b"m" * PAGE_SIZE * 290)
        mapping.sync()
        assert (
            os.getxattr(path, "user.anonfs.pages")
            == b"total=300 none=10 in_core=290 on_swap=0 front=0"
        )
        after = os.fstat(fd)
    assert after.st_mtime_ns > before.st_mtime_ns
    assert after.st_blocks == 290 * PAGE_SIZE // 512


def test_reading_a_hole_allocates_nothing(shared_mount: Path) -> None:
    with _mapped(shared_mount / "f", 1000) as (fd, mapping):
        assert not any(mapping.read(0, 1000 * PAGE_SIZE))
        assert os.fstat(fd).st_blocks == 0


def test_a_hole_is_punched(shared_mount: Path) -> None:
    with _mapped(shared_mount / "f", 2) as (fd, mapping):
        mapping.write(0, b"goes")
        mapping.advise(_MADV_REMOVE)
        assert mapping.read(0, 4) == bytes(4)
        forget_pages(fd)
        assert mapping.read(0, 4) == bytes(4)
        assert os.fstat(fd).st_blocks == 0


def test_two_processes_hand_a_page_back_and_forth(shared_mount: Path) -> None:
    path = shared_mount / "f"
    with _mapped(path, 1) as (fd, mapping):

        def child() -> None:
            own = os.open(path, os.O_RDWR)
            mine = Mapping(own, PAGE_SIZE)
            while (turn := hear()) is not None:
                say(mine.read(0, 4))
                mine.write(0, b"%04d" % (turn + 1))
                say("written")

        with Child(child) as process:
            for turn in range(0, 20, 2):
                mapping.write(0, b"%04d" % turn)
                process.tell(turn)
                assert process.said() == b"%04d" % turn
                assert process.said() == "written"
                if turn % 4 == 0:
                    forget_pages(fd)
                assert mapping.read(0, 4) == b"%04d" % (turn + 1)
