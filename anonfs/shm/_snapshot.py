"""Copying the pages of a segment that are there, in large pieces.

The page map tells which they are, once what was stored has been written back. A piece goes from the
mapping to the other file by one write(2): neither Python nor the copy's page tables see its pages.
"""

import os

from anonfs.client import Mapping, page_runs
from anonfs.units import PAGE_SIZE

__all__ = ["copy_pages"]

_PIECE = 8 << 20


def copy_pages(source: Mapping, target: int) -> None:
    """Copy what ``source`` maps, from its beginning, to a file that is all holes and as long.

    Raises:
        OSError: as msync(2) and write(2).
    """
    source.flush()
    runs, complete = page_runs(source)
    present = [(run.first, run.last + 1) for run in runs if run.state != "none"]
    if not complete:
        present.append((runs[-1].last + 1, len(source)))
    with memoryview(source) as view:
        for first, end in present:
            _copy(view, target, first * PAGE_SIZE, min(end * PAGE_SIZE, len(view)))


def _copy(view: memoryview, target: int, begin: int, end: int) -> None:
    while begin < end:
        with view[begin : min(begin + _PIECE, end)] as piece:
            begin += os.pwrite(target, piece, begin)
