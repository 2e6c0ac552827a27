"""Transfers: pages between slots and rows of memory, with as few requests as they allow.

Where a request of several slots fails, its slots are tried one by one, so that it is known which of
them are bad and the others do not suffer for it::

    slots    4  5  6  7    20 21        one request, and another
             ✗             ✓            the first fails
             ✓  ✓  ✗  ✓                 and once more one by one: slot 6 is bad

A disk that fails many times in a row is dead, and may take its time for each failure: it is not
asked for the rest, which then is neither done nor failed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anonfs.swap._store import SwapStore
from anonfs.units import PAGE_SHIFT

__all__ = ["Transfer", "read_slots", "write_slots"]

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Piece = tuple[int, int]

_PATIENCE = 8
"""Failures of single slots in a row after which a disk is not asked again."""


class Transfer(NamedTuple):
    """What became of each slot, and the first ``error`` of the store."""

    done: Mask
    failed: Mask
    error: OSError | None


def read_slots(store: SwapStore, slots: Rows, pages: memoryview, rows: Rows) -> Transfer:
    """Read each slot into the page of ``pages`` (bytes) that ``rows`` names."""

    def read(start: int, stop: int) -> None:
        store.read_into(_offset(slots[start]), _pages(pages, rows[start], stop - start))

    both_count_up = (np.diff(slots) == 1) & (np.diff(rows) == 1)
    return _attempt(slots.size, _pieces(both_count_up), read)


def write_slots(store: SwapStore, slots: Rows, pages: memoryview, rows: Rows) -> Transfer:
    """Write to each slot the page of ``pages`` (bytes) that ``rows`` names, without a copy."""
    rows_count_up = np.diff(rows) == 1

    def write(start: int, stop: int) -> None:
        runs = _pieces(rows_count_up[start : stop - 1])
        buffers = [_pages(pages, rows[start + a], b - a) for a, b in runs]
        store.write_from(_offset(slots[start]), buffers)

    return _attempt(slots.size, _pieces(np.diff(slots) == 1), write)


def _attempt(count: int, pieces: Iterable[Piece], move: Callable[[int, int], None]) -> Transfer:
    """``move`` each piece, and one by one the items of those that fail."""
    found = Transfer(np.zeros(count, np.bool_), np.zeros(count, np.bool_), None)
    waiting, in_a_row = deque(pieces if count else ()), 0
    while waiting and in_a_row < _PATIENCE:
        start, stop = waiting.popleft()
        try:
            move(start, stop)
        except OSError as error:
            found = found._replace(error=found.error or error)
            if stop - start > 1:
                waiting.extendleft((item, item + 1) for item in reversed(range(start, stop)))
            else:
                found.failed[start], in_a_row = True, in_a_row + 1
        else:
            found.done[start:stop], in_a_row = True, 0
    return found


def _pieces(joined: Mask) -> Iterator[Piece]:
    """(start, stop) of each run of items, where ``joined`` says which continue the one before."""
    starts = [0, *(np.flatnonzero(~joined) + 1).tolist()]
    return zip(starts, [*starts[1:], joined.size + 1], strict=True)


def _offset(slot: int) -> int:
    return (int(slot) - 1) << PAGE_SHIFT


def _pages(pages: memoryview, row: int, count: int) -> memoryview:
    start = int(row) << PAGE_SHIFT
    return pages[start : start + (count << PAGE_SHIFT)]
