"""What reading ahead opens is not to stay open, whatever became of it."""

import errno
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anonfs.errors import AnonfsError
from anonfsd._read_ahead import ReadAhead

_SECONDS = 10.0


class Files:
    """One file; any other is gone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @contextmanager
    def open(self, ino: int) -> Iterator[int]:
        if ino != 1:
            raise AnonfsError(errno.ESTALE)
        yield self._fd


def test_it_says_when_something_may_be_open(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(8192))
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    files: Any = Files(fd)
    told: queue.SimpleQueue[None] = queue.SimpleQueue()
    ahead = ReadAhead(files, lambda: True, lambda: told.put(None))
    ahead.start()
    for ino in (1, 2, 1):
        ahead.ask(ino, 0, 2)
        told.get(timeout=_SECONDS)
    os.close(fd)
