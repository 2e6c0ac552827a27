"""tmpfs as the reference: a scenario gives the same record there as on anonfs.

A scenario is a function that gets an empty directory and returns whatever can be compared: errno
names, bytes, the fields of a stat. It must not return what differs by nature: inode numbers of
their own, absolute times, paths. Facts that both get wrong in the same way are out of its reach,
so a test that has one right answer also asserts it.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = [
    "as_on_tmpfs",
    "compare",
    "facts",
    "forget_pages",
    "names",
    "opened",
    "outcome",
    "tick",
    "times_changed",
]

Scenario = Callable[[Path], object]

_CLOCK_REALTIME_COARSE = 5
_FACTS = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_rdev")


def as_on_tmpfs(scenario: Scenario) -> Callable[[Path, Path], None]:
    """Makes a test of ``scenario``: what it returns is the same on both file systems."""

    def test(shared_mount: Path, tmpfs: Path) -> None:
        compare(scenario, shared_mount, tmpfs)

    # Not functools.wraps: pytest would look for the fixtures of the scenario.
    test.__name__ = scenario.__name__
    test.__qualname__ = scenario.__qualname__
    test.__module__ = scenario.__module__
    return test


def compare(scenario: Scenario, anonfs: Path, tmpfs: Path) -> None:
    """Run ``scenario`` in both directories, and fail unless the records are equal."""
    expected = scenario(tmpfs)
    found = scenario(anonfs)
    if found != expected:
        pytest.fail(f"anonfs differs from tmpfs\n{_differences(found, expected)}")


def _differences(found: object, expected: object, where: str = "") -> str:
    """Where two records differ, as far down as both have the same shape."""
    pairs: list[tuple[object, object, object]] = []
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [*expected, *(key for key in found if key not in expected)]
        pairs = [(key, found.get(key), expected.get(key)) for key in keys]
    elif (
        isinstance(found, list | tuple)
        and isinstance(expected, list | tuple)
        and len(found) == len(expected)
    ):
        pairs = list(zip(range(len(found)), found, expected, strict=True))
    lines = [
        _differences(one, other, f"{where}[{key!r}]") for key, one, other in pairs if one != other
    ]
    return "\n".join(lines) or f"{where}: anonfs {found!r:.500}, tmpfs {expected!r:.500}"


def outcome(function: Callable[..., object], *arguments: Any, **keywords: Any) -> object:
    """What a call returns, or the name of the errno that it fails with."""
    try:
        return function(*arguments, **keywords)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))


def facts(path: Path | int | str, *, follow_symlinks: bool = True) -> dict[str, object]:
    """The fields of a stat that do not depend on the file system, or an errno's name."""
    try:
        found = os.stat(path, follow_symlinks=follow_symlinks)  # noqa: PTH116  or a descriptor
    except OSError as error:
        return {"error": errno.errorcode[error.errno or 0]}
    record: dict[str, object] = {name: getattr(found, name) for name in _FACTS}
    if stat.S_ISDIR(found.st_mode):
        del record["st_size"]  # tmpfs counts 20 bytes an entry
    return record


def opened(path: Path | str, flags: int, mode: int = 0o666) -> object:
    """How an open ends: ``opened``, or the name of an errno."""
    try:
        os.close(os.open(path, flags, mode))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "opened"


def names(directory: Path) -> list[str]:
    """What a directory lists, in order of names."""
    return sorted(path.name for path in directory.iterdir())


def forget_pages(file: Path | int) -> None:
    """Let the kernel forget what it caches of a file, so that only the daemon's pages are left.

    Without it most data that a daemon loses is never missed. On tmpfs there is nothing to forget.
    """
    try:
        os.getxattr(file, "user.anonfs.kind")
    except OSError:
        return
    os.setxattr(file, "user.anonfs.swapout", b"all")


def tick(*paths: Path) -> None:
    """Wait until the clock that files are stamped with is past all times of ``paths``."""
    newest = max(max(p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in paths)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) <= newest:
        time.sleep(0.0005)


def times_changed(action: Callable[[], object], *paths: Path) -> list[object]:
    """An action's outcome, then for each path whether it advances mtime and ctime."""
    tick(*paths)
    before = [path.lstat() for path in paths]
    record: list[object] = [outcome(action)]
    for path, old in zip(paths, before, strict=True):
        try:
            new = path.lstat()
        except FileNotFoundError:
            record.append("gone")
        else:
            record.append((new.st_mtime_ns > old.st_mtime_ns, new.st_ctime_ns > old.st_ctime_ns))
    return record
