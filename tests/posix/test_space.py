"""statvfs and st_blocks tell the truth about pages."""

import os
from pathlib import Path

from anonfs.units import PAGE_SIZE
from tests.posix.children import eventually
from tests.posix.descriptors import descriptor
from tests.posix.memory import Mapping
from tests.posix.reference import forget_pages, outcome
from tests.support.mounts import Mounted

_MEBIBYTE = 1 << 20
_PAGES = _MEBIBYTE // PAGE_SIZE


def _free(place: Path) -> int:
    found = os.statvfs(place)
    assert found.f_bfree == found.f_bavail
    return found.f_bfree


def test_totals(mounted: Mounted) -> None:
    found = os.statvfs(mounted.path)
    assert found.f_bsize == found.f_frsize == PAGE_SIZE
    slack = 256
    assert found.f_blocks == (8 + 256) * _PAGES - slack
    assert found.f_bfree == found.f_blocks
    assert found.f_namemax == 255


def test_a_mebibyte_takes_256_pages_until_its_last_user_has_gone(mounted: Mounted) -> None:
    place = mounted.path
    before = _free(place)
    with descriptor(place / "f") as fd:
        os.write(fd, b"x" * _MEBIBYTE)
        assert _free(place) == before - _PAGES
        assert os.fstat(fd).st_blocks == _MEBIBYTE // 512
        forget_pages(fd)
        assert _free(place) == before - _PAGES
        assert os.fstat(fd).st_blocks == _MEBIBYTE // 512
        os.pwrite(fd, b"y", 0)
        assert _free(place) == before - _PAGES
        (place / "f").unlink()
        assert _free(place) == before - _PAGES
    eventually(lambda: _free(place) == before, "the pages are free again")


def test_a_mapping_holds_the_pages_too(mounted: Mounted) -> None:
    place = mounted.path
    before = _free(place)
    with descriptor(place / "f") as fd:
        os.ftruncate(fd, _MEBIBYTE)
        assert _free(place) == before - _PAGES
        mapping = Mapping(fd, _MEBIBYTE)
        mapping.write(0, b"m" * _MEBIBYTE)
        mapping.sync()
        (place / "f").unlink()
    assert _free(place) == before - _PAGES
    assert mapping.read(_MEBIBYTE - 1, 1) == b"m"
    mapping.unmap()
    eventually(lambda: _free(place) == before, "the pages are free again")


def test_truncation_gives_pages_back(mounted: Mounted) -> None:
    place = mounted.path
    before = _free(place)
    path = place / "f"
    path.write_bytes(b"x" * _MEBIBYTE)
    os.truncate(path, 100 * PAGE_SIZE + 1)
    assert _free(place) == before - 101
    forget_pages(path)
    os.truncate(path, 1)
    assert _free(place) == before - 1
    os.truncate(path, 0)
    assert _free(place) == before


def test_inodes_are_counted(mounted: Mounted) -> None:
    before = os.statvfs(mounted.path).f_ffree
    names = [mounted.path / f"{number}" for number in range(10)]
    for name in names:
        name.mkdir()
    assert os.statvfs(mounted.path).f_ffree == before - 10
    for name in names:
        name.rmdir()
    # FORGET is not waited for, and may come after a request that was made later.
    eventually(lambda: os.statvfs(mounted.path).f_ffree == before, "all inodes are free again")


def test_a_full_mount_says_so_and_keeps_what_it_has(mounted: Mounted) -> None:
    place = mounted.path
    block = os.urandom(_MEBIBYTE)
    written = 0
    with descriptor(place / "f") as fd:
        while outcome(os.pwrite, fd, block, written) == _MEBIBYTE:
            written += _MEBIBYTE
        assert 255 * _MEBIBYTE <= written <= 264 * _MEBIBYTE
        assert outcome(os.pwrite, fd, block, written) == "ENOSPC"
        for offset in range(0, written, 16 * _MEBIBYTE):
            assert os.pread(fd, _MEBIBYTE, offset) == block
        os.ftruncate(fd, 0)
        assert os.pwrite(fd, block, 0) == _MEBIBYTE
