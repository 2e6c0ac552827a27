"""Seeking: where data begin and where they end, as lseek(2) has it with SEEK_DATA and SEEK_HOLE.

Data are pages that exist, that show a front, or that are loaded: one that was handed out may have
been stored to, which is not known before it is written back. All others are holes::

    page          0        1        2        3        4        5
    entry      IN_CORE    NONE     NONE     NONE   ON_SWAP    NONE
    loaded        1        0        0        1        0        0
               ├─ data ─┤├──── hole ─────┤├───── data ─────┤├ hole ┤

A hole without tables costs nothing, nor do fronts; what tables describe is looked at by leaves.
"""

from collections.abc import Collection, Iterator

import numpy as np

from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._leaves import ENTRIES_PER_LEAF, LEAF_SHIFT
from anonfs.mm._loaded import LoadedPages

__all__ = ["find"]


def find(
    info: AnonInodeInfo, loaded: LoadedPages, page: int, end: int, *, data: bool
) -> Iterator[int | None]:
    """The first page from ``page`` to before ``end`` that is data or, without ``data``, a hole.

    It is ``end`` if there is none. Before it comes None, once for each leaf that was looked at:
    whoever has a lock may let go of it there.
    """
    skip = _skip_holes if data else _skip_front
    while (page := skip(info, loaded, page, end)) < end:
        stop = min((page | (ENTRIES_PER_LEAF - 1)) + 1, end)
        entries = info.entries(page, stop - page)
        is_data = (entries != 0) | info.shows_front(page, entries)
        is_data |= loaded.mask(info, page, stop - page)
        found = np.flatnonzero(is_data == data)
        if found.size:
            yield page + int(found[0])
            return
        page = stop
        yield None
    yield end


def _skip_holes(info: AnonInodeInfo, loaded: LoadedPages, page: int, end: int) -> int:
    """The first page from ``page`` on that may be data."""
    front = info.front_run(page)
    shown = front[0] if front is not None else end
    known = info.leaves.keys(), loaded.chunks_of(info)
    return min(shown, *(_first_of(indexes, page, end) for indexes in known))


def _first_of(indexes: Collection[int], page: int, end: int) -> int:
    """The first page from ``page`` on in one of the leaves ``indexes``, or ``end``."""
    index = page >> LEAF_SHIFT
    if index in indexes:
        return page
    later = min((other for other in indexes if other > index), default=None)
    return end if later is None else later << LEAF_SHIFT


def _skip_front(info: AnonInodeInfo, _loaded: LoadedPages, page: int, _end: int) -> int:
    """The first page from ``page`` on that may be a hole."""
    front = info.front_run(page)
    return front[1] if front is not None and front[0] == page else page
