import errno
import fcntl
import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest

from anonfs.swap import FileStore, aligned_pages
from anonfs.units import PAGE_SIZE


def test_the_file_is_private_and_has_no_name_while_in_use(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    store = FileStore.create(path, 4 * PAGE_SIZE)
    try:
        assert not path.exists()
        assert stat.S_IMODE(os.fstat(store._fd).st_mode) == 0o600
        assert os.fstat(store._fd).st_blocks * 512 >= store.size
    finally:
        store.close()


@pytest.mark.parametrize("error", [None, errno.EOPNOTSUPP, errno.EISDIR])
def test_a_kill_while_blocks_are_allocated_leaves_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int | None
) -> None:
    """Also on file systems without O_TMPFILE."""
    allocated: list[list[Path]] = []
    opened = os.open

    def open_(path: Path, flags: int, mode: int = 0o777) -> int:
        if error is not None and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(error, os.strerror(error))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(
        os, "posix_fallocate", lambda *_: allocated.append(list(tmp_path.iterdir()))
    )
    FileStore.create(tmp_path / "swap", PAGE_SIZE).close()
    assert allocated == [[]]


def test_a_kept_file_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    FileStore.create(path, PAGE_SIZE, keep=True).close()
    assert path.stat().st_size == PAGE_SIZE


@pytest.mark.parametrize("kind", ["directory", "file", "link", "nowhere"])
def test_a_path_that_cannot_be_had_is_refused_and_left_as_it_was(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "swap"
    if kind == "directory":
        path.mkdir()
    elif kind == "file":
        path.write_text("precious")
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path = path / "below"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError):
        FileStore.create(path, PAGE_SIZE)
    assert sorted(tmp_path.iterdir()) == before
    if kind == "file":
        assert path.read_text() == "precious"


def test_a_size_beyond_the_file_system_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    with pytest.raises(OSError):
        FileStore.create(path, 1 << 62)
    assert not path.exists()


def test_bytes_come_back(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "swap", 4 * PAGE_SIZE)
    data, found = aligned_pages(2), aligned_pages(2)
    data[:] = np.frombuffer(os.urandom(data.size), np.uint8).reshape(data.shape)
    store.write_from(PAGE_SIZE, [data.data.cast("B")])
    store.read_into(PAGE_SIZE, found.data.cast("B"))
    store.close()
    assert (found == data).all()


def test_more_buffers_than_one_call_takes_are_written(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "swap", 1500 * PAGE_SIZE)
    pages, found = aligned_pages(1500), aligned_pages(1500)
    pages[:] = (np.arange(1500) % 251).astype(np.uint8)[:, None]
    store.write_from(0, [row.data for row in pages])
    store.read_into(0, found.data.cast("B"))
    store.close()
    assert (found == pages).all()


def test_it_goes_past_the_page_cache_where_it_can() -> None:
    store = FileStore.create(None, PAGE_SIZE)
    direct = fcntl.fcntl(store._fd, fcntl.F_GETFL) & os.O_DIRECT
    store.close()
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETFL, os.O_DIRECT)
        except OSError:
            assert not direct
        else:
            assert direct


@pytest.mark.parametrize("count", [1, 2, 256])
def test_buffers_are_aligned(count: int) -> None:
    pages = aligned_pages(count)
    assert pages.ctypes.data % PAGE_SIZE == 0
    assert pages.shape == (count, PAGE_SIZE)
    assert pages.flags.c_contiguous


def test_a_file_that_was_cut_under_us_is_an_io_error(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "swap", 2 * PAGE_SIZE)
    os.ftruncate(store._fd, PAGE_SIZE)
    with pytest.raises(OSError) as caught:
        store.read_into(0, memoryview(bytearray(2 * PAGE_SIZE)))
    store.close()
    assert caught.value.errno == errno.EIO
