"""Directories: counts, listing while names come and go, and positions in a listing."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.posix.descriptors import descriptor
from tests.posix.reference import as_on_tmpfs, facts, outcome, times_changed
from tests.posix.reference import names as listing

_MANY = 5000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.opendir.argtypes = [ctypes.c_char_p]
_libc.telldir.restype = ctypes.c_long
for _call in ("readdir", "telldir", "rewinddir", "closedir"):
    getattr(_libc, _call).argtypes = [ctypes.c_void_p]
_libc.readdir.restype = ctypes.c_void_p
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
_NAME_AT = 19  # struct dirent: ino, off, reclen, type, name


class _Stream:
    """A ``DIR *`` with the calls that Python leaves out."""

    def __init__(self, stream: int) -> None:
        self._stream = stream

    def read(self) -> str | None:
        entry = _libc.readdir(self._stream)
        return None if entry is None else os.fsdecode(ctypes.string_at(entry + _NAME_AT))

    def rest(self) -> list[str]:
        return list(iter(self.read, None))

    def tell(self) -> int:
        return int(_libc.telldir(self._stream))

    def seek(self, position: int) -> None:
        _libc.seekdir(self._stream, position)

    def rewind(self) -> None:
        _libc.rewinddir(self._stream)


@contextmanager
def _stream(directory: Path) -> Iterator[_Stream]:
    stream = _libc.opendir(os.fsencode(directory))
    assert stream is not None
    try:
        yield _Stream(stream)
    finally:
        _libc.closedir(stream)


def _fill(directory: Path, count: int) -> set[str]:
    names = {f"name-{number:05}" for number in range(count)}
    for name in names:
        os.close(os.open(directory / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    return names


@as_on_tmpfs
def test_counts(directory: Path) -> object:
    record: list[object] = []

    def note() -> None:
        record.append([facts(path) for path in (directory, directory / "a", directory / "a/b")])

    note()
    (directory / "a").mkdir()
    (directory / "file").touch()
    note()
    (directory / "a/b").mkdir()
    (directory / "a/c").mkdir()
    note()
    record.append(outcome(os.rmdir, directory / "a"))
    (directory / "a/b").rmdir()
    note()
    record += [outcome(os.rmdir, directory / name) for name in ("file", "missing", "a/.", "a/c/..")]
    record += [outcome(os.unlink, directory / name) for name in ("a", "missing", "file/x")]
    record += [outcome(os.mkdir, directory / name) for name in ("a", "file", "missing/x", "file/x")]
    return record


@as_on_tmpfs
def test_times(directory: Path) -> object:
    inner = directory / "inner"
    inner.mkdir()
    file = inner / "file"
    actions: list[Callable[[], object]] = [
        file.touch,
        (inner / "dir").mkdir,
        (inner / "dir").rmdir,
        lambda: file.write_text("x", encoding="ascii"),
        lambda: listing(inner),
        lambda: (inner / "link").symlink_to("file"),
        file.unlink,
        file.unlink,
    ]
    return [times_changed(action, directory, inner) for action in actions]


@as_on_tmpfs
def test_a_removed_directory_in_use(directory: Path) -> object:
    (directory / "d").mkdir()
    with descriptor(directory / "d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        (directory / "d").rmdir()
        calls = [
            outcome(os.open, "f", os.O_CREAT | os.O_RDWR, 0o600, dir_fd=fd),
            outcome(os.mkdir, "x", dir_fd=fd),
            outcome(os.symlink, "x", "y", dir_fd=fd),
            outcome(os.listdir, fd),
            outcome(os.stat, "f", dir_fd=fd),
            outcome(os.stat, "..", dir_fd=fd) != "ENOENT",
        ]
        return calls, os.fstat(fd).st_nlink


def test_many_entries(shared_mount: Path) -> None:
    names = _fill(shared_mount, _MANY)
    assert listing(shared_mount) == sorted(names)
    with os.scandir(shared_mount) as entries:
        assert sum(entry.is_file(follow_symlinks=False) for entry in entries) == _MANY
    for name in sorted(names)[::2]:
        (shared_mount / name).unlink()
    assert listing(shared_mount) == sorted(names)[1::2]


def test_dots_and_types(shared_mount: Path) -> None:
    (shared_mount / "d").mkdir()
    (shared_mount / "l").symlink_to("d")
    with _stream(shared_mount / "d") as stream:
        assert sorted(stream.rest()) == [".", ".."]
    inner, outer = (shared_mount / "d").stat(), shared_mount.stat()
    assert (shared_mount / "d/.").stat().st_ino == inner.st_ino
    assert (shared_mount / "d/..").stat().st_ino == outer.st_ino
    with os.scandir(shared_mount) as entries:
        found = {
            entry.name: (entry.inode(), entry.is_dir(follow_symlinks=False)) for entry in entries
        }
    assert found == {
        "d": (inner.st_ino, True),
        "l": ((shared_mount / "l").lstat().st_ino, False),
    }


def test_names_that_stay_are_listed_once_while_others_go(shared_mount: Path) -> None:
    names = sorted(_fill(shared_mount, 2000))
    gone = set(names[::3])
    seen: list[str] = []
    with _stream(shared_mount) as stream:
        seen += [str(stream.read()) for _ in range(100)]
        for name in gone:
            (shared_mount / name).unlink()
        for number in range(500):
            (shared_mount / f"new-{number}").touch()
        seen += stream.rest()
    kept = [name for name in seen if name in set(names) - gone]
    assert sorted(kept) == sorted(set(names) - gone)
    assert len(seen) == len(set(seen))


def test_removing_each_name_as_it_is_listed(shared_mount: Path) -> None:
    names = _fill(shared_mount, 1500)
    with os.scandir(shared_mount) as entries:
        removed = set()
        for entry in entries:
            Path(entry.path).unlink()
            removed.add(entry.name)
    assert removed == names
    assert listing(shared_mount) == []


def test_positions(shared_mount: Path) -> None:
    _fill(shared_mount, 700)
    with _stream(shared_mount) as stream:
        start = stream.tell()
        steps = []
        while (name := stream.read()) is not None:
            steps.append((name, stream.tell()))
        assert len(steps) == 702
        for at in (0, 1, 2, 350, 699, 701):
            stream.seek(steps[at][1])
            assert stream.rest() == [name for name, _ in steps[at + 1 :]]
        stream.seek(start)
        assert stream.read() == steps[0][0]


def test_rewinding_looks_again(shared_mount: Path) -> None:
    (shared_mount / "before").touch()
    with _stream(shared_mount) as stream:
        assert sorted(stream.rest()) == [".", "..", "before"]
        (shared_mount / "after").touch()
        (shared_mount / "before").unlink()
        stream.rewind()
        assert sorted(stream.rest()) == [".", "..", "after"]


def test_a_position_outlives_the_removal_of_its_name(shared_mount: Path) -> None:
    _fill(shared_mount, 100)
    with _stream(shared_mount) as stream:
        seen = [str(stream.read()) for _ in range(50)]
        here = stream.tell()
        rest = stream.rest()
        (shared_mount / seen[-1]).unlink()
        (shared_mount / rest[0]).unlink()
        stream.seek(here)
        assert stream.rest() == rest[1:]


@as_on_tmpfs
def test_two_listings_at_once(directory: Path) -> object:
    _fill(directory, 300)
    with _stream(directory) as one, _stream(directory) as two:
        heads = [one.read() for _ in range(50)], [two.read() for _ in range(10)]
        tails = one.rest(), two.rest()
    return [sorted(map(str, [*head, *tail])) for head, tail in zip(heads, tails, strict=True)]
