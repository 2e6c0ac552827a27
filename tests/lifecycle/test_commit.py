"""Commits on a real mount: one moment of an overlay becomes the file under it, no byte is lost."""

import errno
import mmap
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from anonfs.cli import main
from anonfs.client import (
    ClientError,
    changes,
    commit,
    connect,
    discard,
    inspect,
    meminfo,
    overlay,
    private_file,
)
from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, eventually
from tests.support.mounts import Mounted

_PAGES = 600  # two leaves
_SIZE = _PAGES * PAGE_SIZE + 77


@pytest.fixture
def front(tmp_path: Path) -> Path:
    """A file of random bytes, on a file system of its own and alone in its directory."""
    path = tmp_path / "of the file" / "front file"
    path.parent.mkdir()
    path.write_bytes(random.Random(5).randbytes(_SIZE))
    return path


@pytest.fixture
def changed(mounted: Mounted, front: Path) -> tuple[Path, bytes]:
    """An overlay with a changed page, one cut off, and what it shows."""
    path = mounted.path / "over"
    overlay(front, path)
    with path.open("r+b") as file:
        file.seek(7 * PAGE_SIZE)
        file.write(b"changed")
    os.truncate(path, 555 * PAGE_SIZE + 5)
    os.truncate(path, _SIZE + 10)
    return path, path.read_bytes()


def test_commit_keeps_what_the_file_is(changed: tuple[Path, bytes], front: Path) -> None:
    path, want = changed
    front.chmod(0o640)
    os.chown(front, *((1234, 4321) if os.geteuid() == 0 else (-1, -1)))
    os.setxattr(front, "user.note", b"kept")
    was = front.stat()
    assert main(["commit", str(path)]) == 0
    assert front.read_bytes() == want
    status = front.stat()
    assert (status.st_mode, status.st_uid, status.st_gid) == (was.st_mode, was.st_uid, was.st_gid)
    assert path.read_bytes() == want
    assert os.getxattr(front, "user.note") == b"kept"
    assert [entry.name for entry in front.parent.iterdir()] == [front.name]


def test_a_file_of_which_nothing_was_changed_stays_as_it_is(
    changed: tuple[Path, bytes], front: Path
) -> None:
    path, want = changed
    assert commit(path) == front
    committed = front.stat()
    commit(path)
    assert front.stat().st_ino == committed.st_ino
    os.truncate(path, len(want) - 1)
    commit(path)
    assert front.stat().st_ino != committed.st_ino, "it is shorter"
    assert front.read_bytes() == want[:-1]


def test_an_overlay_is_committed_again_and_again(mounted: Mounted, front: Path) -> None:
    """It is over the new file each time, has no changes then, and shows what it did throughout."""
    fs, path, model = connect(mounted.path), mounted.path / "over", bytearray(front.read_bytes())
    overlay(front, path)
    first = bytes(model)
    fs.clone("over", "copy")
    with fs.map("over") as mapped:
        for turn in range(3):
            for page in range(turn, _PAGES, 50 + turn):
                mapped[page * PAGE_SIZE] = model[page * PAGE_SIZE] = turn
            if turn == 1:
                fs.swap_out("over")
            assert len(changes(path)) > 10
            assert commit(path) == front
            assert front.read_bytes() == model == bytes(mapped)
            assert inspect(path).front.ino == front.stat().st_ino  # type: ignore[union-attr]
            assert changes(path) == []
            assert all(name.startswith("user.anonfs.") for name in os.listxattr(path))
        mapped[:4] = b"last"
        discard(path)
        assert bytes(mapped) == model
    eventually(lambda: meminfo(mounted.path).frames_used == 0, "all frames are free")
    assert (mounted.path / "copy").read_bytes() == first
    front.rename(front.with_name("moved"))
    with path.open("r+b") as file:
        file.write(b"still")
    commit(path)
    front.write_bytes(b"another")
    front.with_name("moved").unlink()
    with pytest.raises(ClientError, match="removed or replaced"):
        commit(path)
    front.rename(front.with_name("moved"))
    with pytest.raises(ClientError, match="is not the file"):
        commit(path)
    assert front.with_name("moved").read_bytes() == b"another"


_CALLS = (
    "setxattr", "copy_file_range", "pwrite", "ftruncate", "fchmod", "fsync", "link", "rename",
    "removexattr",
)  # fmt: skip


def _commit_until(path: Path, call: str, after: bool) -> None:
    """Commit, and be killed before or after the first such call."""
    real = getattr(os, call)

    def dying(*arguments: object, **keywords: object) -> None:
        if after:
            real(*arguments, **keywords)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, call, dying)
    commit(path)


def test_killed_at_any_point_a_commit_leaves_the_old_or_the_new_file(
    changed: tuple[Path, bytes], front: Path
) -> None:
    """And the next one can be told of both; what was left behind it takes away."""
    path, want = changed
    old = front.read_bytes()
    for call in _CALLS:
        for after in (False, True):
            with Child(_commit_until, path, call, after) as child:
                assert child.wait() == -signal.SIGKILL, (call, after)
            assert path.read_bytes() == want
            done = call == "removexattr" or (call, after) == ("rename", True)
            assert front.read_bytes() == (want if done else old)
            left = [entry.name for entry in front.parent.iterdir()]
            assert len(left) == 1 + ((call, after) in {("link", True), ("rename", False)})
            if not done:
                continue
            with path.open("r+b") as file:
                file.seek(300 * PAGE_SIZE)
                file.write(f"{call} {after}".encode())
            old, want = want, path.read_bytes()
    commit(path)
    assert front.read_bytes() == path.read_bytes() == want
    assert changes(path) == []
    assert [entry.name for entry in front.parent.iterdir()] == [front.name]


def _store(path: Path, until: Path) -> int:
    """Store a number to page after page, and the next; each has to be there the next time."""
    descriptor = os.open(path, os.O_RDWR)
    words = np.frombuffer(mmap.mmap(descriptor, 0), np.int64)[:: PAGE_SIZE // 8]
    number = 0
    while not until.exists():
        for page in range(words.size):
            assert words[page] == number
            words[page] = number + 1
        number += 1
    return number


def test_a_commit_has_one_moment_of_what_is_being_stored_to(
    mounted: Mounted, front: Path, tmp_path: Path
) -> None:
    front.write_bytes(bytes(64 * PAGE_SIZE))
    path = mounted.path / "over"
    overlay(front, path)
    with Child(_store, path, tmp_path / "stop") as child:
        newest = 0
        for _ in range(10):
            commit(path)
            words = np.fromfile(front, np.int64)[:: PAGE_SIZE // 8]
            assert words[0] >= newest
            newest = int(words[0])
            assert newest - words[-1] in {0, 1}
            assert (np.diff(words) <= 0).all()
            connect(mounted.path).swap_out("over")
        (tmp_path / "stop").touch()
        stored = child.said()
        assert set(np.fromfile(path, np.int64)[:: PAGE_SIZE // 8]) == {stored}
    commit(path)
    assert front.read_bytes() == path.read_bytes()


def test_a_commit_needs_room_for_what_was_changed_alone(mounted: Mounted, front: Path) -> None:
    with private_file(front, mount=mounted.path) as view:
        spare = os.statvfs(mounted.path).f_bavail - 200
        connect(mounted.path).create("the rest", spare * PAGE_SIZE).close()
        view[: 100 * PAGE_SIZE] = bytes(100 * PAGE_SIZE)
        commit(view)
        assert view[:] == front.read_bytes()
        view[: 400 * PAGE_SIZE] = b"x" * 400 * PAGE_SIZE
        with pytest.raises(OSError, match="space") as caught:
            commit(view)
        assert caught.value.errno == errno.ENOSPC
        assert front.read_bytes()[:5] == bytes(5)
    assert [entry.name for entry in front.parent.iterdir()] == [front.name]
