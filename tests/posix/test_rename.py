"""rename(2) and renameat2(2): what may take the place of what, and what becomes of both."""

import ctypes
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.posix.descriptors import descriptor
from tests.posix.reference import (
    as_on_tmpfs,
    compare,
    facts,
    forget_pages,
    names,
    outcome,
    times_changed,
)

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def _rename(source: Path, target: Path, flags: int) -> None:
    names = os.fsencode(source), _AT_FDCWD, os.fsencode(target)
    if _libc.renameat2(_AT_FDCWD, *names, ctypes.c_uint(flags)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _file(path: Path) -> None:
    path.write_bytes(os.fsencode(path.name) * 3000)


def _full(path: Path) -> None:
    path.mkdir()
    (path / "child").write_text("child", encoding="ascii")


KINDS: dict[str, Callable[[Path], object]] = {
    "file": _file,
    "dir": Path.mkdir,
    "full": _full,
    "link": lambda path: path.symlink_to("target"),
    "fifo": os.mkfifo,
    "missing": lambda _: None,
}


def _tree(top: Path) -> dict[str, object]:
    """Every name below ``top`` with its facts and its bytes as the daemon has them."""
    record: dict[str, object] = {".": facts(top)}
    for path in sorted(top.rglob("*")):
        record[str(path.relative_to(top))] = facts(path, follow_symlinks=False)
        if path.is_symlink():
            record[f"{path.name} ->"] = os.fspath(path.readlink())
        elif path.is_file():
            forget_pages(path)
            record[f"{path.name} has"] = path.read_bytes()
    return record


@pytest.mark.parametrize("flags", [0, NOREPLACE, EXCHANGE, WHITEOUT, NOREPLACE | EXCHANGE, 8])
def test_every_kind_over_every_kind(shared_mount: Path, tmpfs: Path, flags: int) -> None:
    def scenario(directory: Path) -> object:
        record = {}
        for source, target in itertools.product(KINDS, KINDS):
            for far in (False, True):
                place = directory / f"{source}-{target}-{far}"
                (place / "far").mkdir(parents=True)
                old, new = place / "old", (place / "far" if far else place) / "new"
                KINDS[source](old)
                KINDS[target](new)
                record[f"{place.name}: call"] = outcome(_rename, old, new, flags)
                record[f"{place.name}: tree"] = _tree(place)
        return record

    if flags == WHITEOUT:
        # tmpfs can, for the sake of overlayfs; what is asked for must not happen by halves.
        place = shared_mount
        _file(place / "old")
        assert outcome(_rename, place / "old", place / "new", WHITEOUT) == "EINVAL"
        assert names(place) == ["old"]
    else:
        compare(scenario, shared_mount, tmpfs)


@as_on_tmpfs
def test_within_and_above_itself(directory: Path) -> object:
    (directory / "a/b/c").mkdir(parents=True)
    (directory / "x").mkdir()
    moves = [
        ("a", "a/b/c/d"),
        ("a", "a/b"),
        ("a/b/c", "a"),
        ("a", "a"),
        ("a/.", "q"),
        ("a/b/..", "q"),
        ("x", "a/b/c"),
        ("a/b/c", "x"),
        ("missing/x", "q"),
        ("x", "missing/q"),
    ]
    record: dict[str, object] = {
        f"{flags} {old} {new}": outcome(_rename, directory / old, directory / new, flags)
        for old, new in moves
        for flags in (0, NOREPLACE, EXCHANGE)
    }
    return record | _tree(directory)


def test_nothing_moves_below_itself(shared_mount: Path) -> None:
    (shared_mount / "a/b").mkdir(parents=True)
    assert outcome(os.rename, shared_mount / "a", shared_mount / "a/b/c") == "EINVAL"
    call = outcome(_rename, shared_mount / "a", shared_mount / "a/b", EXCHANGE)
    assert call == "EINVAL"


@as_on_tmpfs
def test_two_names_of_one_file(directory: Path) -> object:
    _file(directory / "a")
    (directory / "b").hardlink_to(directory / "a")
    _file(directory / "other")
    (directory / "other2").hardlink_to(directory / "other")
    record: dict[str, object] = {}
    for flags in (0, NOREPLACE, EXCHANGE):
        record[f"same {flags}"] = outcome(_rename, directory / "a", directory / "b", flags)
    record["over"] = outcome(_rename, directory / "a", directory / "other", 0)
    return record | _tree(directory)


@as_on_tmpfs
def test_a_directory_moves_with_its_parents_counts(directory: Path) -> object:
    for name in ("one/inner", "two/inner", "two/other"):
        (directory / name).mkdir(parents=True)
    (directory / "one/file").touch()
    record = [_tree(directory)]
    inner = directory / "one/inner"
    inner.rename(directory / "two/moved")
    record.append(_tree(directory))
    (directory / "two/moved").rename(directory / "two/inner")
    record.append(_tree(directory))
    _rename(directory / "one/file", directory / "two/inner", EXCHANGE)
    record.append(_tree(directory))
    # `..` follows.
    same = (directory / "one/file/..").samefile(directory / "one")
    return record, same, outcome(os.rmdir, directory / "one")


@as_on_tmpfs
def test_times(directory: Path) -> object:
    for name in ("from", "to"):
        (directory / name).mkdir()
    file, victim = directory / "from/file", directory / "to/victim"
    places = directory, directory / "from", directory / "to"

    def moved(source: Path, target: Path, flags: int) -> object:
        _file(source)
        _file(target)
        fds = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
        before = [os.fstat(fd) for fd in fds]
        record = times_changed(lambda: _rename(source, target, flags), *places)
        after = [os.fstat(fd) for fd in fds]
        for fd, old, new in zip(fds, before, after, strict=True):
            record.append((old.st_mtime_ns == new.st_mtime_ns, old.st_ctime_ns < new.st_ctime_ns))
            os.close(fd)
        return record

    return moved(file, victim, 0), moved(file, victim, EXCHANGE)


@as_on_tmpfs
def test_a_directory_in_use_is_replaced(directory: Path) -> object:
    for name in ("old", "new"):
        (directory / name).mkdir()
    with descriptor(directory / "old", os.O_RDONLY | os.O_DIRECTORY) as fd:
        (directory / "new").rename(directory / "old")
        created = outcome(os.open, "f", os.O_CREAT | os.O_RDWR, 0o600, dir_fd=fd)
        return created, os.fstat(fd).st_nlink, outcome(os.listdir, fd), _tree(directory)
