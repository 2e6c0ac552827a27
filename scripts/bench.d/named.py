"""Scenarios on names: many small files that come and go."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from anonfs.units import PAGE_SIZE
from measure import Better, Metric, Sample
from pages import expect
from places import Place

__all__ = ["small_files"]

_FILES = 5000
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY

_CREATE = Metric("create and close, empty", "files/s", Better.HIGHER)
_UNLINK = Metric("unlink, empty", "files/s", Better.HIGHER)
_CREATE_4K = Metric("create, write 4 KiB, close", "files/s", Better.HIGHER)
_UNLINK_4K = Metric("unlink, 4 KiB", "files/s", Better.HIGHER)


def small_files(place: Place) -> Iterator[Sample]:
    """Files in one directory, empty and then of one page."""
    data = os.urandom(PAGE_SIZE)
    for content, create, unlink in ((b"", _CREATE, _UNLINK), (data, _CREATE_4K, _UNLINK_4K)):
        with _directory(place) as path, _descriptor(path) as directory:
            names = [f"file-{number}" for number in range(_FILES)]
            yield create, _FILES / _created(directory, names, content)
            written = sum(file.stat().st_size for file in path.iterdir())
            expect(written, _FILES * len(content), "bytes in small files")
            yield unlink, _FILES / _unlinked(directory, names)
            expect(len(list(path.iterdir())), 0, "names left")


@contextlib.contextmanager
def _directory(place: Place) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=place.directory) as path:
        yield Path(path)


@contextlib.contextmanager
def _descriptor(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _created(directory: int, names: list[str], content: bytes) -> float:
    """Seconds to make the files."""
    begin = perf_counter()
    for name in names:
        fd = os.open(name, _NEW, dir_fd=directory)
        if content:
            os.write(fd, content)
        os.close(fd)
    return perf_counter() - begin


def _unlinked(directory: int, names: list[str]) -> float:
    """Seconds to take the names away."""
    begin = perf_counter()
    for name in names:
        os.unlink(name, dir_fd=directory)
    return perf_counter() - begin
