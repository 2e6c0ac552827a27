"""Cutting: what lies behind the end of a file goes, and holes are made in it.

Whole pages are freed, and of a page that stays in part the rest is cleared::

    a hole          ├──────────────────────────────────┤
    pages      │ edge      │   freed   │   freed   │ edge      │

An edge is cleared by a write of zeros, with all that a write needs first. The end of a file is not:
a truncation must not need room that a full mount does not have, see `PageCut`.
"""

from anonfs.errors import require
from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._cut import PageCut
from anonfs.mm._entry import Entries, PageState, numbers, states
from anonfs.mm._memory import Memory, Parts
from anonfs.units import PAGE_SHIFT, PAGE_SIZE, pages_for

__all__ = ["edges", "is_cut", "punch", "truncate", "work_before_truncate"]

_ZEROS = memoryview(bytes(PAGE_SIZE))


# -- the end of a file -----------------------------------------------------------------------------


def work_before_truncate(memory: Memory, info: AnonInodeInfo, size: int) -> PageCut | None:
    """What must be done before ``info`` is cut to ``size`` bytes, or None.

    That is to clear the rest of its last page, where that is on swap, or is shared and there is no
    frame for a copy.

    Raises:
        AnonfsError: ENOSPC, there are no more leaves.
    """
    page, tail = size >> PAGE_SHIFT, size & (PAGE_SIZE - 1)
    state = states(info.entries(page, 1))[0]
    crowded = state == PageState.IN_CORE and not memory.frames.free and memory.shares(info, page)
    if tail and (state == PageState.ON_SWAP or crowded):
        return PageCut(memory, info, page, tail)
    return None


def is_cut(info: AnonInodeInfo, size: int, cut: PageCut) -> bool:
    """Whether ``cut``, performed, is still what a truncation to ``size`` bytes needs."""
    return int(info.entries(size >> PAGE_SHIFT, 1)[0]) == cut.entry


def truncate(memory: Memory, info: AnonInodeInfo, size: int, cut: PageCut | None = None) -> None:
    """Free the pages beyond ``size`` bytes and clear the rest of the last one.

    ``cut`` is the work before it, finished under the same hold of the lock as this call: it may
    have put the page into a frame, which the next eviction would pick.

    Raises:
        AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
    """
    memory.freeing.clear(info, pages_for(size))
    memory.loaded.drop(info, pages_for(size))
    info.cut_front(size)
    tail = size & (PAGE_SIZE - 1)
    entry = info.entries(size >> PAGE_SHIFT, 1)
    if not tail or not entry.any():
        return
    if states(entry)[0] == PageState.IN_CORE:
        _clear_tail(memory, info, entry, size)
    else:
        require(cut is not None and cut.entry == entry[0], "a page on swap was not cut")


def _clear_tail(memory: Memory, info: AnonInodeInfo, entry: Entries, size: int) -> None:
    """Clear the page in core that ``size`` ends in from there on; it takes a frame, or none.

    Where the page is on its way to swap and no other frame is free, it has to stay.
    """
    rest = PAGE_SIZE - (size & (PAGE_SIZE - 1))
    if memory.frames_wanted(info, [(size, rest)]) <= memory.frames.free:
        memory.write(info, size, _ZEROS[:rest])
        return
    frame = numbers(entry)
    for eviction in memory.evictions:
        eviction.overtake(frame)
    memory.frames.pages[frame, -rest:] = 0


# -- holes -----------------------------------------------------------------------------------------


def edges(offset: int, size: int) -> Parts:
    """The parts of pages of which a hole of ``size`` bytes at ``offset`` has not the whole."""
    end = offset + size
    first, last = pages_for(offset) << PAGE_SHIFT, end & -PAGE_SIZE
    if first > last:
        return [(offset, size)]
    both = (offset, first - offset), (last, end - last)
    return [(at, length) for at, length in both if length]


def punch(memory: Memory, info: AnonInodeInfo, offset: int, size: int) -> None:
    """Make a hole of ``size`` bytes at ``offset``: they read as zeros, also above a front.

    There are the frames that writes to its `edges` want, and nothing to complete there.

    Raises:
        AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
    """
    stop = offset + size
    first, end = pages_for(offset), stop >> PAGE_SHIFT
    # First what can fail: leaves of which a part is changed.
    touched = {offset >> PAGE_SHIFT, (stop - 1) >> PAGE_SHIFT}
    if first < end:
        touched |= {first, end - 1}
    for page in touched:
        memory.sharing.own(info, page, 1)
    # Where the front shows at an edge, nothing to complete, it does so within the hole alone.
    begin = offset >> PAGE_SHIFT if info.shows_front_at(offset >> PAGE_SHIFT) else first
    beyond = end + 1 if stop % PAGE_SIZE and info.shows_front_at(end) else end
    if begin < beyond:
        memory.freeing.clear(info, begin, beyond - begin)
        info.hidden.add(begin, min(beyond, info.front_pages))
    for at, length in edges(offset, size):
        if info.entries(at >> PAGE_SHIFT, 1).any():
            memory.write(info, at, _ZEROS[:length])
