"""lseek(2) with SEEK_DATA and SEEK_HOLE on a real mount, and what copies sparse files by it."""

import mmap
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from anonfs.client import clone, swap_out
from anonfs.units import PAGE_SIZE
from tests.support.mounts import Mounted

_PAGES = 3000
_GIANT = 1 << 40
_SECONDS = 60


def _data(fd: int) -> list[tuple[int, int]]:
    """The pages of a file that are data: first and one beyond the last of each run."""
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        found.append((begin // PAGE_SIZE, -(-at // PAGE_SIZE)))
    return found


def test_what_was_written_in_whatever_way_is_data(mounted: Mounted) -> None:
    path = mounted.path / "f"
    with path.open("w+b") as file:
        file.truncate(_PAGES * PAGE_SIZE)
        fd = file.fileno()
        assert _data(fd) == []
        os.pwrite(fd, b"x", 10 * PAGE_SIZE)
        with mmap.mmap(fd, 0) as mapped:
            mapped[2500 * PAGE_SIZE] = 1  # not written back
            assert _data(fd) == [(10, 11), (2500, 2501)]
            swap_out(path)
            assert _data(fd) == [(10, 11), (2500, 2501)]
            mapped.madvise(mmap.MADV_REMOVE, 2500 * PAGE_SIZE, PAGE_SIZE)
            assert _data(fd) == [(10, 11)]
            mapped[2999 * PAGE_SIZE] = 2
        clone(path, mounted.path / "copy")
        with (mounted.path / "copy").open("rb") as copy:
            assert _data(copy.fileno()) == [(10, 11), (2999, 3000)]


def test_a_sparse_giant_is_copied_by_what_is_there(
    mount_factory: Callable[..., Mounted],
) -> None:
    mounted = mount_factory(overcommit=True)
    with (mounted.path / "giant").open("wb") as file:
        file.truncate(_GIANT)
        os.pwrite(file.fileno(), b"here", _GIANT // 3)
    copy = mounted.path / "copy"
    subprocess.run(
        ["cp", "--sparse=auto", mounted.path / "giant", copy], timeout=_SECONDS, check=True
    )
    assert copy.stat().st_size == _GIANT
    assert copy.stat().st_blocks * 512 == PAGE_SIZE
    with copy.open("rb") as file:
        assert _data(file.fileno()) == [(_GIANT // 3 // PAGE_SIZE, _GIANT // 3 // PAGE_SIZE + 1)]
        assert os.pread(file.fileno(), 4, _GIANT // 3) == b"here"


def test_the_tree_is_read_from_end_to_end(mounted: Mounted, tmp_path: Path) -> None:
    (mounted.path / "f").write_bytes(b"x")
    for name in ("meminfo", "swaps"):
        subprocess.run(
            ["cp", mounted.path / ".anonfs" / name, tmp_path / name], timeout=_SECONDS, check=True
        )
        assert (tmp_path / name).read_bytes()
    with (mounted.path / "f").open("rb") as file:
        assert _data(file.fileno()) == [(0, 1)], "the kernel still asks"
