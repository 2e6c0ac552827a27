import errno
import os
import stat
from pathlib import Path

import pytest

from anonfs.swap import FileStore
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
    data = os.urandom(2 * PAGE_SIZE)
    store.write_from(PAGE_SIZE, memoryview(data))
    found = bytearray(len(data))
    store.read_into(PAGE_SIZE, memoryview(found))
    store.close()
    assert found == data


def test_a_file_that_was_cut_under_us_is_an_io_error(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "swap", 2 * PAGE_SIZE)
    os.ftruncate(store._fd, PAGE_SIZE)
    with pytest.raises(OSError) as caught:
        store.read_into(0, memoryview(bytearray(2 * PAGE_SIZE)))
    store.close()
    assert caught.value.errno == errno.EIO
