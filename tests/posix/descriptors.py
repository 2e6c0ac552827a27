"""Descriptors that are closed however a test ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["descriptor"]


@contextlib.contextmanager
def descriptor(path: Path, flags: int = os.O_RDWR | os.O_CREAT, mode: int = 0o600) -> Iterator[int]:
    """A file's descriptor, by default to read and write, of a file that is made if need be."""
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)
