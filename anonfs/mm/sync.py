"""The engine driven to the end of each call, for callers that have no event loop.

The order of the steps is the one that the daemon keeps to.
"""

from anonfs.mm import cutting
from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._fault import PageLoad
from anonfs.mm._memory import Memory, Parts
from anonfs.mm._work import Work, perform

__all__ = ["bring_in", "punch", "read", "swap_out", "truncate", "work_before_write", "write"]


def read(memory: Memory, info: AnonInodeInfo, offset: int, size: int) -> memoryview:
    """``size`` bytes at ``offset``. Raises OSError from the swap store."""
    found = memory.reading.begin(info, offset, size)
    if not isinstance(found, memoryview):
        perform(found)
        return found.data
    return found


def write(memory: Memory, info: AnonInodeInfo, offset: int, data: bytes | memoryview) -> None:
    """Store ``data`` at ``offset``. Raises AnonfsError: ENOSPC, or OSError from the store."""
    while (work := work_before_write(memory, info, [(offset, len(data))])) is not None:
        perform(work)
    memory.write(info, offset, data)


def punch(memory: Memory, info: AnonInodeInfo, offset: int, size: int) -> None:
    """Make a hole of ``size`` bytes at ``offset``; errors as of `write`."""
    while (work := work_before_write(memory, info, cutting.edges(offset, size))) is not None:
        perform(work)
    cutting.punch(memory, info, offset, size)


def truncate(memory: Memory, info: AnonInodeInfo, size: int) -> None:
    """Cut to ``size`` bytes. Raises OSError from the swap store."""
    cut = cutting.work_before_truncate(memory, info, size)
    if cut is not None:
        perform(cut)
    cutting.truncate(memory, info, size, cut)


def bring_in(memory: Memory, info: AnonInodeInfo) -> None:
    """Have no page of ``info`` on swap. Raises AnonfsError: ENOSPC, EAGAIN, EIO."""
    first = 0
    while pages := memory.pages_to_bring_in(info, first):
        eviction = memory.work_for_frames(len(pages))
        perform(eviction or PageLoad(memory, info, pages))
        first = pages[0]


def swap_out(memory: Memory, info: AnonInodeInfo, first: int, last: int) -> None:
    """Write pages ``first`` to ``last`` to swap. Raises AnonfsError: ENOSPC, EIO."""
    while first <= last:
        eviction, beyond = memory.work_to_swap_out(info, first, last)
        if eviction is not None:
            perform(eviction)
        # What could not be written is tried again, in other slots.
        if eviction is None or eviction.error is None:
            first = beyond


def work_before_write(memory: Memory, info: AnonInodeInfo, parts: Parts) -> Work | None:
    """What must be done next before ``parts`` can be written, or None.

    What a write wants is looked at anew after each piece: to make room may evict its very pages.

    Raises:
        AnonfsError: see `Memory.work_for_frames`.
    """
    eviction = memory.work_for_frames(memory.frames_wanted(info, parts))
    return eviction or memory.work_to_complete(info, parts)
