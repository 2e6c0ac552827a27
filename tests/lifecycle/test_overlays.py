"""Overlays on a real mount: what is written shows there alone, whatever becomes of the file."""

import errno
import mmap
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from anonfs.cli import main
from anonfs.client import (
    ClientError,
    File,
    changes,
    commit,
    connect,
    discard,
    inspect,
    meminfo,
    overlay,
    page_counts,
    private_file,
)
from anonfs.client._socket import ask, socket_name
from anonfs.inspection import PageCounts
from anonfs.units import PAGE_SIZE
from tests.posix.children import NOBODY, SECONDS, Child, as_user, eventually, in_child
from tests.support.mounts import Mounted

_PAGES = 600  # two leaves
_REST = 77
_SIZE = _PAGES * PAGE_SIZE + _REST


@pytest.fixture
def front(tmp_path: Path) -> Path:
    """A file of random bytes, on a file system of its own."""
    path = tmp_path / "front file"
    path.write_bytes(random.Random(5).randbytes(_SIZE))
    return path


def _open(path: Path) -> File:
    return File(os.open(path, os.O_RDWR), path, path.name, read_only=False)


def test_the_way_of_a_page(mounted: Mounted, front: Path) -> None:
    """From the front to core, to swap and back; truncated, extended, cloned and discarded."""
    fs, before = connect(mounted.path), front.read_bytes()
    path = mounted.path / "over"
    assert main(["overlay", str(front), str(path)]) == 0
    model = bytearray(before)
    with fs.map("over") as mapped:
        assert bytes(mapped) == model
        assert page_counts(path) == PageCounts(_PAGES + 1, 0, 0, 0, _PAGES + 1)
        assert meminfo(mounted.path).frames_used == 0
        for offset, data in (
            (5, b"a store"),
            (300 * PAGE_SIZE, bytes(PAGE_SIZE)),
            (_SIZE - 9, b"x"),
        ):
            mapped[offset : offset + len(data)] = model[offset : offset + len(data)] = data
    with path.open("r+b") as file:  # a part of a page by write(2)
        file.seek(513 * PAGE_SIZE + 1)
        file.write(b"written")
        model[513 * PAGE_SIZE + 1 : 513 * PAGE_SIZE + 8] = b"written"
    assert [run.first for run in changes(path)] == [0, 300, 513, 600]
    fs.swap_out("over")  # the page of zeros does not become the file's again
    assert page_counts(path).in_core == 0
    assert path.read_bytes() == model
    fs.clone("over", "copy")
    os.truncate(path, 100 * PAGE_SIZE + 9)
    os.truncate(path, _SIZE + PAGE_SIZE)
    cut = model[: 100 * PAGE_SIZE + 9].ljust(_SIZE + PAGE_SIZE, b"\0")
    assert path.read_bytes() == cut
    assert inspect(path).pages.none == 501
    assert (mounted.path / "copy").read_bytes() == model
    assert front.read_bytes() == before
    with fs.map("over") as mapped:
        mapped[:5] = b"dirty"
        assert main(["discard", str(path)]) == 0
        assert mapped[:5] == before[:5]
    assert path.read_bytes() == before
    assert changes(path) == []
    for name in ("over", "copy"):
        fs.unlink(name)
    eventually(lambda: meminfo(mounted.path).frames_used == 0, "all frames are free")


def test_what_happens_to_the_file_below(mounted: Mounted, front: Path) -> None:
    """It is written to, cut, replaced and removed."""
    mounted.expects_errors = True
    before, path = front.read_bytes(), mounted.path / "over"
    overlay(front, path)
    with path.open("r+b") as file:
        file.write(b"own")
    with front.open("r+b") as file:
        file.seek(PAGE_SIZE)
        file.write(b"changed")
    with path.open("rb") as file:
        assert file.read(3) == b"own"
        file.seek(PAGE_SIZE)
        assert file.read(7) == b"changed"
    front.rename(front.with_name("elsewhere"))
    front.write_bytes(b"another file")
    seen = path.read_bytes()
    assert seen[2 * PAGE_SIZE :] == before[2 * PAGE_SIZE :]
    assert inspect(path).front.path == str(front.with_name("elsewhere"))  # type: ignore[union-attr]
    front.with_name("elsewhere").unlink()
    connect(mounted.path).swap_out("over")
    assert path.read_bytes() == seen
    with pytest.raises(ClientError, match="removed or replaced"):
        commit(path)
    assert front.read_bytes() == b"another file"


def _touch(path: Path, page: int) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    return mapped[page * PAGE_SIZE]


def test_a_file_that_was_cut_is_sigbus_beyond_its_end(mounted: Mounted, front: Path) -> None:
    mounted.expects_errors = True
    path = mounted.path / "over"
    overlay(front, path)
    with path.open("r+b") as file:
        file.seek(500 * PAGE_SIZE)
        file.write(b"own".ljust(PAGE_SIZE))
    os.truncate(front, 3 * PAGE_SIZE + 1)
    with Child(_touch, path, 100) as child:
        assert child.wait() == -signal.SIGBUS
    for page in (3, 500):
        assert in_child(_touch, path, page) in range(256)
    with path.open("rb", buffering=0) as file, pytest.raises(OSError, match="error") as caught:
        os.pread(file.fileno(), PAGE_SIZE, 200 * PAGE_SIZE)
    assert caught.value.errno == errno.EIO
    with pytest.raises(ClientError, match="had"):
        commit(path)


def test_bad_fronts(mounted: Mounted, tmp_path: Path) -> None:
    fs = connect(mounted.path)
    empty = tmp_path / "empty"
    empty.touch()
    inside = fs.create("inside", 1).path
    os.mkfifo(tmp_path / "fifo")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0o600)
    outcomes = {}
    for name, path in {
        "directory": tmp_path,
        "device": Path("/dev/zero"),
        "fifo": tmp_path / "fifo",
        "inside": inside,
        "missing": tmp_path / "missing",
    }.items():
        try:
            overlay(path, mounted.path / "over")
        except OSError as error:
            outcomes[name] = errno.errorcode[error.errno or 0]
    assert outcomes == {
        "directory": "EISDIR",
        "device": "EINVAL",
        "fifo": "EINVAL",
        "inside": "EINVAL",
        "missing": "ENOENT",
    }
    if os.geteuid() == 0:
        mounted.path.chmod(0o1777)
        refused = as_user(NOBODY, tmp_path, lambda _: _refused(secret, mounted.path / "over"))
        assert refused == "EACCES"
    overlay(empty, mounted.path / "empty")
    assert (mounted.path / "empty").read_bytes() == b""
    with pytest.raises(FileExistsError):
        overlay(empty, mounted.path / "empty")
    assert sorted(entry.name for entry in fs.list()) == ["empty", "inside"]


def _refused(front: Path, over: Path) -> str:
    try:
        overlay(Path(front.name), over)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def _overlay_until(front: Path, path: Path, after: bool) -> None:
    real = os.link

    def dying(*arguments: object, **keywords: object) -> None:
        if after:
            real(*arguments, **keywords)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)

    os.link = dying
    overlay(front, path)


def test_killed_at_any_point_who_makes_an_overlay_has_made_it_or_nothing(
    mounted: Mounted, front: Path
) -> None:
    path = mounted.path / "over"
    for after in (False, True):
        with Child(_overlay_until, front, path, after) as child:
            assert child.wait() == -signal.SIGKILL
        assert [entry.name for entry in mounted.path.iterdir()] == ["over"] * after
    assert path.read_bytes() == front.read_bytes()
    assert path.stat().st_nlink == 1


def _ask(mount: Path, request: bytes, *descriptors: int) -> str:
    name = socket_name(mount.stat().st_dev)
    return errno.errorcode.get(ask(name, request, descriptors, time.monotonic() + SECONDS), "done")


def test_the_daemon_takes_nobodys_word(mounted: Mounted, front: Path, tmp_path: Path) -> None:
    """What a client that means harm may send it."""
    made = os.open(mounted.path / "over", os.O_RDWR | os.O_CREAT, 0o600)
    reader = os.open(mounted.path / "over", os.O_RDONLY)
    shown, writer = os.open(front, os.O_RDONLY), os.open(front, os.O_WRONLY)
    path, zero = os.open(front, os.O_PATH), os.open("/dev/zero", os.O_RDONLY)
    inside, directory = os.open(mounted.path / "over", os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    left, right = socket.socketpair()
    for answer, sent in (
        ("EBADF", [reader, shown]),
        ("EBADF", [made, writer]),
        ("EBADF", [made, path]),
        ("EINVAL", [made, zero]),
        ("EINVAL", [made, left.fileno()]),
        ("EISDIR", [made, directory]),
        ("ELOOP", [made, inside]),
        ("EXDEV", [writer, shown]),
        ("EINVAL", [made]),
        ("EINVAL", [made, shown, shown]),
        ("done", [made, shown]),
        ("EEXIST", [made, shown]),
    ):
        assert _ask(mounted.path, b"overlay", *sent) == answer
    assert os.fstat(made).st_size == _SIZE
    with connect(mounted.path).create("another", _SIZE) as other:
        for answer, sent in (
            ("EINVAL", [made, shown]),
            ("EBADF", [reader, shown, made]),
            ("EBADF", [made, writer, other.fileno()]),
            ("EINVAL", [other.fileno(), shown, made]),
            ("ESTALE", [made, shown, other.fileno()]),
            ("ELOOP", [made, inside, made]),
            ("EXDEV", [writer, shown, made]),
        ):
            assert _ask(mounted.path, b"commit", *sent) == answer
    assert _ask(mounted.path, b"discard", reader) == "EBADF"
    assert _ask(mounted.path, b"discard", writer) == "EXDEV"
    assert _ask(mounted.path, b"discard", made) == "done"
    for descriptor in (made, reader, shown, writer, path, zero, inside, directory):
        os.close(descriptor)
    left.close()
    right.close()


def _read(path: Path, page: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    return os.pread(descriptor, PAGE_SIZE, page * PAGE_SIZE)


def _write_a_byte(path: Path, page: int) -> bytes:
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, b"x", page * PAGE_SIZE)
    return b"written"


def test_a_front_that_does_not_answer_is_in_nobody_elses_way(
    mounted: Mounted, mount_factory: Callable[..., Mounted]
) -> None:
    """It is of a file system of FUSE that stands still; more wait for it than there are threads."""
    below = mount_factory()
    data = random.Random(2).randbytes(100 * PAGE_SIZE)
    (below.path / "front").write_bytes(data)
    path, other = mounted.path / "over", mounted.path / "other"
    overlay(below.path / "front", path)
    connect(below.path).swap_out("front")
    below.hang()
    try:
        readers = [Child(_read, path, 4 * page) for page in range(12)]
        writers = [Child(_write_a_byte, path, 80 + page) for page in range(12)]
        for turn in range(50):
            other.write_bytes(data[: (turn + 1) * PAGE_SIZE])
            assert other.read_bytes() == data[: (turn + 1) * PAGE_SIZE]
        connect(mounted.path).swap_out("other")
        assert not any(child.has_said(0) for child in (*readers, *writers))
    finally:
        os.kill(below.process.pid, signal.SIGCONT)
    for page, child in enumerate(readers):
        with child:
            assert child.said() == data[4 * page * PAGE_SIZE :][:PAGE_SIZE]
    for child in writers:
        with child:
            assert child.said() == b"written"
    want = bytearray(data)
    for page in range(80, 92):
        want[page * PAGE_SIZE] = ord("x")
    assert path.read_bytes() == want


def _make_some(mount: Path, front: Path, which: int) -> None:
    for number in range(20):
        overlay(front, mount / f"{which}-{number}")


def test_many_are_made_at_a_time(mounted: Mounted, front: Path) -> None:
    os.truncate(front, PAGE_SIZE)
    children = [Child(_make_some, mounted.path, front, which) for which in range(12)]
    for child in children:
        with child:
            child.said()
    paths = list(mounted.path.iterdir())
    assert len(paths) == 240
    for path in paths:
        path.unlink()
    eventually(lambda: str(front) not in _open_in(mounted.process.pid), "the file is closed")


def _open_in(pid: int) -> set[str]:
    """What a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(link.readlink()))
    return found


# -- real programs -----------------------------------------------------------------------------

_WORKERS = 4


def _work(data: "np.memmap[tuple[int], np.dtype[np.uint8]]", part: int) -> None:
    share = data.size // _WORKERS
    mine = data[part * share : part * share + share // 10]
    mine += np.uint8(1 + part)


def test_numpy_changes_parts_of_a_file_of_eight_times_the_budget(
    mount_factory: Callable[..., Mounted], tmp_path: Path
) -> None:
    mounted = mount_factory(budget="4M", swap_size="64M")
    size = 32 << 20
    original = np.random.default_rng(3).integers(0, 256, size, np.uint8)
    original.tofile(tmp_path / "array")
    overlay(tmp_path / "array", mounted.path / "array")
    data = np.memmap(mounted.path / "array", np.uint8, "r+")
    children = [Child(_work, data, part) for part in range(_WORKERS)]
    for child in children:
        with child:
            child.said()
            assert child.wait() == 0
    want = original.copy()
    for part in range(_WORKERS):
        _work(want, part)  # type: ignore[arg-type]
    assert np.array_equal(data, want)
    counts = page_counts(mounted.path / "array")
    assert counts.in_core + counts.on_swap <= counts.total // 10 + 2 * _WORKERS
    assert np.array_equal(np.fromfile(tmp_path / "array", np.uint8), original)


def test_sqlite_writes_to_an_overlay_of_its_database(mounted: Mounted, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db")) as database, database:
        database.execute("create table t(k integer primary key, v text)")
        database.executemany("insert into t values(?, ?)", ((k, "v" * 100) for k in range(5000)))
    before = (tmp_path / "db").read_bytes()
    path = mounted.path / "db"
    overlay(tmp_path / "db", path)
    with closing(sqlite3.connect(path)) as database:
        for turn in range(5):
            with database:
                database.execute("update t set v = ? where k % 97 = ?", (f"turn {turn}", turn))
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    counts = page_counts(path)
    assert 0 < counts.in_core + counts.on_swap < counts.total
    assert (tmp_path / "db").read_bytes() == before
    commit(path)
    with closing(sqlite3.connect(tmp_path / "db")) as database:
        found = database.execute("select count(*) from t where v like 'turn%'").fetchone()
        assert found == (sum(len(range(turn, 5000, 97)) for turn in range(5)),)


def test_git_works_on_pack_files_that_are_overlays(mounted: Mounted, tmp_path: Path) -> None:
    where = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C"]

    def git(place: Path, *arguments: str) -> bytes:
        done = subprocess.run([*where, place, *arguments], check=True, capture_output=True)
        return done.stdout

    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", repository], check=True)
    for number in range(3):
        for file in range(20):
            data = random.Random(number * 20 + file).randbytes(5000).hex()
            (repository / f"file{file}").write_text(data)
        git(repository, "add", ".")
        git(repository, "commit", "-qm", f"change {number}")
    git(repository, "gc", "-q")
    packs = repository / ".git" / "objects" / "pack"
    was = {path.name: path.read_bytes() for path in packs.iterdir()}
    view = mounted.path / "view"
    shutil.copytree(repository, view, ignore=lambda where, _: was if Path(where) == packs else ())
    for name in was:
        overlay(packs / name, view / ".git" / "objects" / "pack" / name)
    git(view, "fsck", "--full", "--strict")
    assert git(view, "log", "--stat") == git(repository, "log", "--stat")
    (view / "file0").write_text("new")
    git(view, "commit", "-qam", "in the view")
    git(view, "repack", "-qad")
    git(view, "fsck", "--full")
    assert {path.name: path.read_bytes() for path in packs.iterdir()} == was
    assert git(repository, "status", "--porcelain") == b""


def test_children_have_private_views_of_their_own(mounted: Mounted, front: Path) -> None:
    before = front.read_bytes()
    with private_file(front, mount=mounted.path) as view:
        view[5:10] = b"first"

        def change() -> bytes:
            assert view[:] == before[:5] + b"first" + before[10:]
            view[5:10] = b"child"
            view[-1:] = b"!"
            view.swap_out()
            return view[:12] + view[-1:]

        with Child(change) as child:
            assert child.said() == before[:5] + b"child" + before[10:12] + b"!"
        assert view[:] == before[:5] + b"first" + before[10:]
        assert view.inspect().kind == "private"
    assert front.read_bytes() == before


def test_a_private_view_of_a_file(
    mounted: Mounted, front: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANONFS_MOUNT", str(mounted.path))
    before = front.read_bytes()
    with private_file(front) as view, private_file(front, writable=False) as other:
        view[5:10] = b"store"
        view.flush()
        assert view.inspect().pages == PageCounts(_PAGES + 1, 0, 1, 0, _PAGES)
        assert other[:] == before
        with pytest.raises(TypeError):
            other[0] = 1
        view.swap_out()
        assert view[:] == before[:5] + b"store" + before[10:]
        discard(view)
        assert view[:] == before
    assert front.read_bytes() == before
    assert list(mounted.path.iterdir()) == []
