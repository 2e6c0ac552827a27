"""What the stream of events tells of the areas of one file."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from anonfs.events import Lost, parse_event_line

__all__ = ["Told", "listening"]

_PIECE = 1 << 20


class Told:
    """How often what was told of the file with number ``inode``, on the open ``stream``."""

    def __init__(self, stream: int, inode: int) -> None:
        self._stream = stream
        self._inode = inode
        self._rest = b""
        self._counts: Counter[str] = Counter()

    def counts(self) -> Counter[str]:
        """Up to now, by the names of the events; nothing may be lost."""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self._stream, _PIECE):
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    event = parse_event_line(line.decode())
                    assert not isinstance(event, Lost), f"{event.events} events are lost"
                    self._counts[event.event] += event.inode == self._inode
        return +self._counts

    @property
    def areas(self) -> int:
        """How many areas there are, as far as it was told."""
        counts = self.counts()
        return counts["open"] + counts["dup"] - counts["close"]


@contextlib.contextmanager
def listening(file: Path) -> Iterator[Told]:
    """Read what is told of ``file``, which is new, from now on."""
    top = next(one for one in file.parents if (one / ".anonfs").exists())
    stream = os.open(top / ".anonfs" / "events", os.O_RDONLY | os.O_NONBLOCK)
    try:
        Told(stream, 0).counts()  # the past, when the number may have been another file's
        yield Told(stream, file.stat().st_ino)
    finally:
        os.close(stream)
