"""Overlaying: inodes are put over a front, over another one, and get rid of all that hides it.

To go over another front, with the bytes that it showed at one moment, an overlay need not keep what
it had then. There is a copy of it, made at that moment: a page that both name in one place was not
stored to since. What the overlay has elsewhere was stored later, and stays its own::

    page          0      1      2      3      4      5
    moment      front  A      B     front  zeros    C
    overlay     front  A      X      Y     zeros  zeros       cut within page 5, and longer again
    from now on front  front  X      Y     front  zeros
                ├─────────── end ──────────────┤

The overlay must not show what it has cut off since the moment, so the front ends before that.
"""

import errno

import numpy as np

from anonfs.errors import AnonfsError, require
from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._entry import Entries
from anonfs.mm._front import Front, FrontStore
from anonfs.mm._leaves import ENTRIES_PER_LEAF, LEAF_SHIFT
from anonfs.mm._memory import Memory
from anonfs.units import PAGE_SHIFT, pages_for

__all__ = ["change_front", "discard", "overlay"]


def overlay(memory: Memory, info: AnonInodeInfo, store: FrontStore, size: int) -> None:
    """Let ``info``, which has no page and no front, show ``size`` bytes of ``store``.

    The store is closed when nobody needs it any more, which may be once this has failed.
    """
    require(not info.leaves and info.front is None, "an overlay is made of an empty inode")
    memory.put_over(info, Front(store, size), size)


def change_front(
    memory: Memory, info: AnonInodeInfo, moment: AnonInodeInfo, store: FrontStore, size: int
) -> None:
    """Let ``info`` show ``size`` bytes of ``store``, which has what its copy ``moment`` shows.

    The pages that it still has in common with ``moment`` are freed. Whoever reads it does not see a
    difference.

    Raises:
        AnonfsError: ESTALE, ``moment`` is no copy, or ``info`` was discarded since; ENOSPC, there
            are no more leaves. Nothing was changed.
    """
    common, end = _common_pages(info, moment, size)
    memory.freeing.clear_some(info, common)
    info.change_front(Front(store, size), end)
    # What was a hole at that moment is zeros of the new front.
    info.hidden.remove_all(moment.hidden)


def discard(memory: Memory, info: AnonInodeInfo) -> None:
    """Free all pages of ``info``, which has a front that shows in full from now on.

    Raises:
        AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
    """
    memory.freeing.clear(info)
    info.show_front()


def _common_pages(
    info: AnonInodeInfo, moment: AnonInodeInfo, size: int
) -> tuple[dict[int, Entries], int]:
    """The pages that ``info`` need not keep over the ``size`` bytes of its copy ``moment``.

    By leaf, their places in it; and up to which byte the ``size`` bytes may show.

    Raises:
        AnonfsError: ESTALE, ``moment`` is no copy, or ``info`` was discarded since.
    """
    if info.front is None or info.front is not moment.front or info.front_end > moment.front_end:
        raise _stale()
    if any(info.front_shown(*hidden) for hidden in moment.hidden):
        raise _stale()
    end = size if info.front_end == moment.front_end else min(size, info.front_end)
    common = {}
    for index in sorted({*info.leaves, *moment.leaves}):
        first = index << LEAF_SHIFT
        count = min(ENTRIES_PER_LEAF, pages_for(end) - first)
        if count <= 0:
            break
        ours, theirs = info.entries(first, count), moment.entries(first, count)
        shown, was_shown = info.shows_front(first, ours), moment.shows_front(first, theirs)
        if (shown & ~was_shown).any():
            raise _stale()
        gone = (ours == 0) & ~shown & ((theirs != 0) | was_shown)
        gone[: max(0, info.front_pages - first)] = False  # a hole was made there, which stays one
        cut = np.flatnonzero(gone)
        if cut.size:
            count = int(cut[0])
            end = (first + count) << PAGE_SHIFT
        rows = np.flatnonzero((ours == theirs)[:count] & (ours != 0)[:count])
        if rows.size:
            common[index] = rows
    if end < info.front_end:
        raise _stale()
    return common, end


def _stale() -> AnonfsError:
    return AnonfsError(errno.ESTALE, "not what the overlay was made of since")
