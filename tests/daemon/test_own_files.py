"""The daemon's own files, over ordinary ones."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from anonfs.client import Mount
from anonfs.errors import AnonfsError
from anonfsd import _own_files
from anonfsd._own_files import OwnFiles
from anonfsd._tuning import Tuning
from tests.daemon.paged import in_thread


class Opener:
    """Opens a file for each inode number, which it has to be told of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[int] = []
        self.roots = 0
        for ino in range(1, 30):
            (folder / str(ino)).touch()

    def root(self, _mounted: Mount) -> int:
        self.roots += 1
        return os.open(self.folder, os.O_RDONLY)

    def file(self, root: int, ino: int) -> int:
        self.opened.append(ino)
        try:
            return os.open(str(ino), os.O_RDONLY, dir_fd=root)
        except FileNotFoundError as error:
            raise AnonfsError(error.errno or 0) from None


def open_here(folder: Path) -> list[str]:
    """What this process has open in and of ``folder``."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            targets.append(str(link.readlink()))
    return sorted(target for target in targets if target.startswith(str(folder)))


@pytest.fixture
def opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    opener = Opener(tmp_path)
    monkeypatch.setattr(_own_files, "_open_detached", opener.root)
    monkeypatch.setattr(_own_files, "_open_by_number", opener.file)
    yield opener
    assert open_here(tmp_path) == []


@pytest.fixture
def files(opener: Opener, tmp_path: Path) -> Iterator[OwnFiles]:
    del opener
    files = OwnFiles(Mount(tmp_path, "fuse.anonfs", (0, 0)), Tuning((0, 0)))
    yield files
    files.close_idle(0)
    assert not files.any_open


def test_a_file_is_kept_open_for_a_moment(files: OwnFiles, opener: Opener) -> None:
    assert not files.any_open
    for _ in range(3):
        with files.open(7) as fd:
            assert os.fstat(fd).st_ino == (opener.folder / "7").stat().st_ino
    assert (opener.opened, opener.roots) == ([7], 1)
    files.close_idle(1000)
    assert open_here(opener.folder) == [str(opener.folder), str(opener.folder / "7")]
    files.close_idle(0)
    assert open_here(opener.folder) == []


def test_what_is_in_use_is_not_closed(files: OwnFiles, opener: Opener) -> None:
    with files.open(7) as fd, files.open(8):
        files.forget(7)
        files.close_idle(0)
        os.fstat(fd)
        assert files.any_open, "nor is the root"
    assert len(open_here(opener.folder)) == 3


def test_what_is_forgotten_is_closed(files: OwnFiles, opener: Opener) -> None:
    with files.open(7), files.open(8):
        pass
    files.forget(7)
    files.close_idle(1000)
    assert open_here(opener.folder) == [str(opener.folder), str(opener.folder / "8")]


def test_what_is_forgotten_while_it_is_used_is_closed_after(
    files: OwnFiles, opener: Opener
) -> None:
    with files.open(7):
        files.forget(7)
    assert open_here(opener.folder) == [str(opener.folder)]


def test_there_may_be_nothing_to_forget(files: OwnFiles, opener: Opener) -> None:
    assert not files.forget(7)
    with files.open(7):
        assert files.forget(8), "it may be just being opened"
    assert files.forget(7)
    assert not files.forget(9)
    assert opener.opened == [7]


def test_to_forget_takes_no_lock(files: OwnFiles) -> None:
    """The event loop does, and whoever has the lock may be waiting for an answer of it."""
    with files._lock, files._opening:
        in_thread(files.forget, 7)()


def test_threads_share_a_file(files: OwnFiles, opener: Opener) -> None:
    with files.open(7) as one, files.open(7) as other:
        assert one == other
        with files.open(7):
            files.forget(7)
        os.fstat(one)
    assert open_here(opener.folder) == [str(opener.folder)]
    with files.open(7):
        pass
    files.close_idle(1000)
    with files.open(7):
        pass
    assert open_here(opener.folder) == [str(opener.folder), str(opener.folder / "7")]


def test_not_many_are_kept(files: OwnFiles, opener: Opener) -> None:
    for ino in range(1, 30):
        with files.open(ino):
            pass
    assert len(open_here(opener.folder)) == 1 + _own_files._KEPT


def test_what_cannot_be_opened_leaves_nothing_behind(files: OwnFiles, opener: Opener) -> None:
    with pytest.raises(AnonfsError), files.open(99):
        pass
    assert open_here(opener.folder) == [str(opener.folder)]
    files.close_idle(0)
    assert open_here(opener.folder) == []


def test_an_error_of_the_user_keeps_the_file(files: OwnFiles, opener: Opener) -> None:
    with pytest.raises(ValueError, match="odd"), files.open(7):
        raise ValueError("odd")
    with files.open(7):
        pass
    assert opener.opened == [7]
