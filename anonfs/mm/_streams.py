"""Streams: where an inode is read in sequence, and what to read ahead of whoever does so.

The kernel's own read-ahead knows a page fault and not where the next will be: around each it reads
as much as its one knob says, for a stream and for a random access alike. So the knob is kept small,
and a stream is found by its READs, each beginning where one before it ended. From then on it is
read ahead in windows, which double as in mm/readahead.c. Of a reader that finds every page there
nothing is heard, so before each window a page is left out, for a marker, as the kernel marks a page
of its own windows::

    ├─READs─┤...gap...├─ window 1 ─┤m├──── window 2 ────┤m├──────── window 3 ────────
                                    └ the READ of this marker has window 3 read ahead

so that there is a window between the reader and what is being read. The gap is for the time that it
takes to begin.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo

__all__ = ["Streams"]

_INODES = 64
_STREAMS = 4  # of an inode
_READS = 3
_GAP = 64
_FIRST_WINDOW = 128

Span = tuple[int, int]
"""The first page and the number of pages."""


@dataclass(slots=True)
class _Stream:
    """The next READ is awaited at ``at`` or, once there is a window, at its ``marker``.

    From ``at`` to ``end``, where the marker after next will be, pages are or are being read ahead.
    """

    at: int
    marker: int = 0
    reads: int = 1
    window: int = 0
    end: int = 0


class Streams:
    """The streams of a mount, read ahead by up to ``largest`` pages at once."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._streams: OrderedDict[AnonInodeInfo, list[_Stream]] = OrderedDict()

    def note(self, info: "AnonInodeInfo", first: int, count: int) -> list[Span]:
        """``count`` pages from ``first`` were asked for; returns what to read ahead now."""
        streams = self._streams.get(info)
        if streams is None:
            streams = self._streams[info] = []
            if len(self._streams) > _INODES:
                self._streams.popitem(last=False)
        for place, stream in enumerate(streams):
            if stream.at <= first <= max(stream.at, stream.end):
                streams.insert(0, streams.pop(place))
                return self._go_on(stream, first, first + count)
        streams.insert(0, _Stream(first + count))
        del streams[_STREAMS:]
        return []

    def _go_on(self, stream: _Stream, first: int, end: int) -> list[Span]:
        """A READ of a stream: in sequence, in what is being read ahead, or of its marker."""
        if stream.window:
            if not first <= stream.marker < end:
                return []
            stream.at = stream.marker = stream.end
            return [self._next_window(stream)]
        stream.reads += 1
        stream.at = end
        if stream.reads < _READS:
            return []
        stream.end = end + _GAP - 1
        ahead = [self._next_window(stream)]
        stream.marker = stream.end
        return [*ahead, self._next_window(stream)]

    def _next_window(self, stream: _Stream) -> Span:
        """The window behind the marker that the last one ended with."""
        stream.window = min(max(2 * stream.window, _FIRST_WINDOW), self._largest)
        first = stream.end + 1
        stream.end = first + stream.window
        return first, stream.window
