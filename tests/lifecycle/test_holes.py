"""Holes on a real mount: fallocate(2) and MADV_REMOVE, with the file mapped, shared and on swap."""

import ctypes
import errno
import mmap
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.client import (
    changes,
    clone,
    commit,
    connect,
    inspect,
    meminfo,
    overlay,
    page_counts,
    swap_out,
)
from anonfs.inspection import PageRun
from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, eventually, say
from tests.support.mounts import Mounted

_KEEP_SIZE, _PUNCH_HOLE, _COLLAPSE_RANGE, _ZERO_RANGE = 1, 2, 8, 16
_PAGES = 600  # two leaves
_SIZE = _PAGES * PAGE_SIZE
_HOLES = [
    (0, PAGE_SIZE),
    (5, 10),
    (PAGE_SIZE + 1, PAGE_SIZE),
    (100 * PAGE_SIZE + 7, 200 * PAGE_SIZE),
    (500 * PAGE_SIZE, 20 * PAGE_SIZE),
    (_SIZE - 100, 10 * PAGE_SIZE),
]
_WHOLE = 1 + 199 + 20  # pages of which a hole has all

_libc = ctypes.CDLL(None, use_errno=True)


def _fallocate(fd: int, mode: int, offset: int, size: int) -> None:
    if _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(size)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _punch(fd: int, content: bytearray, offset: int, size: int) -> None:
    _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, size)
    end = min(len(content), offset + size)
    content[offset:end] = bytes(max(0, end - offset))


@pytest.fixture
def content() -> bytearray:
    return bytearray(random.Random(9).randbytes(_SIZE))


@pytest.fixture
def path(mounted: Mounted, content: bytearray) -> Path:
    path = mounted.path / "f"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("swapped", [False, True])
def test_holes_are_zeros_in_every_mapping_and_take_no_place(
    path: Path, content: bytearray, swapped: bool
) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        assert mapped[:] == content
        mapped[7 * PAGE_SIZE] = content[7 * PAGE_SIZE] = 3  # dirty, outside of every hole
        mapped[150 * PAGE_SIZE] = content[150 * PAGE_SIZE] = 4  # and inside of one
        if swapped:
            swap_out(path)
        for hole in _HOLES:
            _punch(file.fileno(), content, *hole)
            assert mapped[:] == content
        assert os.fstat(file.fileno()).st_size == _SIZE
        assert page_counts(path).none == _WHOLE
        assert os.fstat(file.fileno()).st_blocks == (_PAGES - _WHOLE) * PAGE_SIZE // 512
        swap_out(path)
        assert mapped[:] == content
        mapped[200 * PAGE_SIZE] = content[200 * PAGE_SIZE] = 1  # a hole can be used again
        mapped.madvise(mmap.MADV_REMOVE, 200 * PAGE_SIZE, 2 * PAGE_SIZE)
        content[200 * PAGE_SIZE] = 0
        assert mapped[:] == content
    assert path.read_bytes() == content
    assert page_counts(path).none == _WHOLE


def test_a_hole_in_one_copy_is_none_in_another(
    mounted: Mounted, path: Path, content: bytearray
) -> None:
    copies = [mounted.path / "eager", mounted.path / "lazy"]
    for copy in copies:
        clone(path, copy, lazy=copy.name == "lazy")
    first, second, third = (bytearray(content) for _ in range(3))
    before = meminfo(mounted.path).frames_used
    for file, shown, holes in (
        (path, first, _HOLES[:4]),
        (copies[0], second, _HOLES[2:]),
        (copies[1], third, [(0, _SIZE)]),
    ):
        with file.open("r+b") as opened:
            for hole in holes:
                _punch(opened.fileno(), shown, *hole)
    for file, shown in ((path, first), (copies[0], second), (copies[1], third)):
        swap_out(file)
        assert file.read_bytes() == shown
    assert page_counts(copies[1]).none == _PAGES
    for file in (path, *copies):
        file.unlink()
    eventually(lambda: meminfo(mounted.path).frames_used < before, "the frames are free")


def test_a_hole_hides_what_is_under_an_overlay(
    mounted: Mounted, tmp_path: Path, content: bytearray
) -> None:
    under, path = tmp_path / "under", mounted.path / "over"
    under.write_bytes(content)
    before = bytes(content)
    overlay(under, path)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[3 * PAGE_SIZE] = content[3 * PAGE_SIZE] = 0
        for hole in _HOLES:
            _punch(file.fileno(), content, *hole)
            assert mapped[:] == content
        counts = page_counts(path)
        assert counts.none == _WHOLE
        assert counts.in_core + counts.on_swap == 6  # one store, and what is left of five pages
        assert PageRun(500, 519, "none") in changes(path)
        swap_out(path)
        assert mapped[:] == content
        copy = mounted.path / "copy"
        clone(path, copy)
        assert copy.read_bytes() == content
        os.truncate(path, 510 * PAGE_SIZE)
        os.truncate(path, _SIZE)
        assert path.read_bytes() == content[: 510 * PAGE_SIZE].ljust(_SIZE, b"\0")
    assert under.read_bytes() == before
    commit(copy)
    assert under.read_bytes() == content


def test_what_cannot_be_allocated_is_refused(path: Path, content: bytearray) -> None:
    with path.open("r+b") as file:
        fd = file.fileno()
        for mode in (_KEEP_SIZE, _ZERO_RANGE | _KEEP_SIZE, _COLLAPSE_RANGE):
            with pytest.raises(OSError, match="not supported"):
                _fallocate(fd, mode, _SIZE - PAGE_SIZE, 2 * PAGE_SIZE)
        _fallocate(fd, _KEEP_SIZE, 0, _SIZE)
        _punch(fd, content, _SIZE + 5, 10 * PAGE_SIZE)
        assert os.fstat(fd).st_size == _SIZE
        _fallocate(fd, _ZERO_RANGE, _SIZE - 10, 10 + PAGE_SIZE)
        content[_SIZE - 10 :] = bytes(10 + PAGE_SIZE)
    assert path.read_bytes() == content
    with path.open("rb") as file, pytest.raises(OSError) as refused:
        _fallocate(file.fileno(), _PUNCH_HOLE | _KEEP_SIZE, 0, PAGE_SIZE)
    assert refused.value.errno == errno.EBADF


def test_nothing_of_before_comes_back_where_others_store(mounted: Mounted) -> None:
    """Pages are stored to and written back all the while that holes are made of them."""
    path, pages = mounted.path / "f", 16
    path.write_bytes(b"x" * pages * PAGE_SIZE)

    def store() -> None:
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            say("storing")
            while True:
                for page in range(pages):
                    mapped[page * PAGE_SIZE + 8] = 1

    def write_back() -> None:
        with path.open("r+b") as file:
            say("writing back")
            while True:
                _libc.sync_file_range(file.fileno(), ctypes.c_int64(0), ctypes.c_int64(0), 2)

    with (
        Child(store) as storing,
        Child(write_back) as writing_back,
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as mapped,
    ):
        for child in (storing, writing_back):
            child.said()
        shown = bytearray(len(mapped))
        for _ in range(200):
            mapped[:] = b"x" * len(mapped)
            mapped.madvise(mmap.MADV_REMOVE)
            shown[:] = mapped[:]
            shown[8::PAGE_SIZE] = bytes(pages)
            assert not any(shown)
        swap_out(path)
        shown[:] = mapped[:]
        shown[8::PAGE_SIZE] = bytes(pages)
        assert not any(shown)


def test_whoever_is_killed_in_the_middle_leaves_a_sound_file(mounted: Mounted, path: Path) -> None:
    def punch() -> None:
        with path.open("r+b") as file:
            dice = random.Random(4)
            say("punching")
            while True:
                offset = dice.randrange(_SIZE)
                size = dice.randrange(1, 50 * PAGE_SIZE)
                _fallocate(file.fileno(), _PUNCH_HOLE | _KEEP_SIZE, offset, size)
                os.pwrite(file.fileno(), b"y" * min(size, _SIZE - offset), offset)

    for _ in range(10):
        with Child(punch) as child:
            child.said()
            assert path.stat().st_size == _SIZE
            child.kill(signal.SIGKILL)
            child.wait()
    with path.open("r+b") as file:
        _fallocate(file.fileno(), _PUNCH_HOLE | _KEEP_SIZE, 0, _SIZE)
    assert path.read_bytes() == bytes(_SIZE)
    assert page_counts(path).none == _PAGES
    assert meminfo(mounted.path).frames_used == 0


def test_private_memory_is_freed_by_madvise(mounted: Mounted) -> None:
    with connect(mounted.path).private(8 * PAGE_SIZE) as memory:
        memory[:] = b"x" * len(memory)
        pid = os.fork()
        if pid == 0:
            memory.madvise(mmap.MADV_DONTNEED, PAGE_SIZE, 4 * PAGE_SIZE)
            os._exit(memory[:] != b"x" * PAGE_SIZE + bytes(4 * PAGE_SIZE) + b"x" * 3 * PAGE_SIZE)
        assert os.waitpid(pid, 0)[1] == 0
        memory.madvise(mmap.MADV_FREE, PAGE_SIZE)
        assert memory[:] == b"x" * PAGE_SIZE + bytes(7 * PAGE_SIZE)
        assert memory.inspect().pages.none == 7


def test_attached_areas_know_nothing_of_holes(mounted: Mounted) -> None:
    fs = connect(mounted.path)
    with fs.create("g", 16 * PAGE_SIZE), fs.map("g") as mapped:
        mapped[:] = b"x" * len(mapped)
        ring = inspect(mounted.path / "g").areas
        mapped.madvise(mmap.MADV_REMOVE, 4 * PAGE_SIZE, 4 * PAGE_SIZE)
        assert inspect(mounted.path / "g").areas == ring
        pid = os.fork()
        if pid == 0:
            os._exit(any(mapped[4 * PAGE_SIZE : 8 * PAGE_SIZE]))
        assert os.waitpid(pid, 0)[1] == 0


def test_a_hole_where_a_front_does_not_answer_is_in_nobody_elses_way(
    mounted: Mounted, mount_factory: Callable[..., Mounted], path: Path, content: bytearray
) -> None:
    """The kernel waits for a page that is being read before it drops it, and the hole with it."""
    below, over = mount_factory(), mounted.path / "over"
    (below.path / "front").write_bytes(content)
    overlay(below.path / "front", over)
    swap_out(below.path / "front")

    def faults() -> int:
        return meminfo(mounted.path).counters.fault_requests

    def read() -> bool:
        with over.open("rb") as file:
            return any(os.pread(file.fileno(), PAGE_SIZE, 5 * PAGE_SIZE))

    def punch() -> None:
        with over.open("r+b") as file:
            _punch(file.fileno(), bytearray(_SIZE), 0, _SIZE)

    before = faults()
    below.hang()
    try:
        reading = Child(read)
        eventually(lambda: faults() > before, "the page is asked for")
        punching = Child(punch)
        eventually(lambda: page_counts(over).none == _PAGES, "the hole is being made")
        with path.open("r+b") as file:
            for hole in _HOLES:
                _punch(file.fileno(), content, *hole)
        swap_out(path)
        assert path.read_bytes() == content
        assert not any(child.has_said(0) for child in (reading, punching))
    finally:
        os.kill(below.process.pid, signal.SIGCONT)
    for child in (reading, punching):
        with child:
            child.said()
    assert over.read_bytes() == bytes(_SIZE)
