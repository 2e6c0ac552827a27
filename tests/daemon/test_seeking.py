import errno
import os
import struct
from collections.abc import Iterator

import pytest

from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, Inode
from anonfsd._seeking import Seeking
from tests.daemon.paged import FakeReceiver, Paged

_PAGES = 2000


class Kernel:
    """What asks."""

    def __init__(self, paged: Paged) -> None:
        self._seeking = Seeking(paged.lock, paged.paging, paged.failing)
        self.receiver = FakeReceiver()

    def seek(self, ino: int, offset: int, whence: int) -> int | str:
        """Where something is found, or the name of an errno."""
        self.receiver = FakeReceiver()
        if error := self._seeking.seek(ino, offset, whence, self.receiver):
            assert not self.receiver.replies
            return errno.errorcode[error]
        (reply,) = self.receiver.replies
        found: int = struct.unpack("=Q", reply)[0]
        return found


@pytest.fixture
def paged() -> Iterator[Paged]:
    made = Paged(frames=2048, slots=4096)
    yield made
    made.check()
    made.close()


@pytest.fixture
def file(paged: Paged) -> Inode:
    inode = paged.file(pages=_PAGES)
    with paged.lock:
        paged.filesystem.truncate(inode, _PAGES * PAGE_SIZE - 100)
    return inode


@pytest.fixture
def kernel(paged: Paged) -> Kernel:
    return Kernel(paged)


def test_data_and_holes(paged: Paged, file: Inode, kernel: Kernel) -> None:
    paged.write(file.ino, 7 * PAGE_SIZE, b"x" * PAGE_SIZE)
    assert kernel.seek(file.ino, 0, os.SEEK_DATA) == 7 * PAGE_SIZE
    assert kernel.seek(file.ino, 7 * PAGE_SIZE + 5, os.SEEK_DATA) == 7 * PAGE_SIZE + 5
    assert kernel.seek(file.ino, 8 * PAGE_SIZE, os.SEEK_DATA) == "ENXIO"
    assert kernel.seek(file.ino, 3, os.SEEK_HOLE) == 3
    assert kernel.seek(file.ino, 7 * PAGE_SIZE + 5, os.SEEK_HOLE) == 8 * PAGE_SIZE


def test_the_end_is_a_hole_and_beyond_it_there_is_none(
    paged: Paged, file: Inode, kernel: Kernel
) -> None:
    paged.write(file.ino, (_PAGES - 1) * PAGE_SIZE, b"x")
    assert kernel.seek(file.ino, (_PAGES - 1) * PAGE_SIZE, os.SEEK_HOLE) == file.size
    assert kernel.seek(file.ino, file.size - 1, os.SEEK_DATA) == file.size - 1
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        assert kernel.seek(file.ino, file.size, whence) == "ENXIO"
        assert kernel.seek(file.ino, 1 << 62, whence) == "ENXIO"


def test_who_searches_for_long_lets_another_one_lead(
    paged: Paged, file: Inode, kernel: Kernel
) -> None:
    kernel.seek(file.ino, 0, os.SEEK_HOLE)
    assert not kernel.receiver.let
    paged.write(file.ino, 0, b"x" * 600 * PAGE_SIZE)
    assert kernel.seek(file.ino, 0, os.SEEK_HOLE) == 600 * PAGE_SIZE
    assert kernel.receiver.let


def test_what_has_no_pages_is_read_from_end_to_end(paged: Paged, kernel: Kernel) -> None:
    assert kernel.seek(ROOT, 0, os.SEEK_DATA) == "EINVAL"
    assert kernel.seek(1 << 40, 0, os.SEEK_HOLE) == "EINVAL"
    paged.failing.failed = True
    inode = paged.file()
    assert kernel.seek(inode.ino, 0, os.SEEK_DATA) == "EIO"
