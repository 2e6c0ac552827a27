"""Departing: inodes that no name and no open file refers to, and that the kernel still knows.

What such a file has, its pages, its charges, its record, comes back when the kernel tells that it
has forgotten it, which may be a little after the unlink(2) or close(2) that did it has returned::

    last name or open gone ──▶ departing ──▶ the kernel's FORGET ──▶ gone
                                   └──▶ opened again, by a descriptor that is only a path

So who finds no room for a file may look again when one of those has gone. But a path that somebody
holds keeps a file for ever: after a second it counts as kept, and who opens and closes it by that
path does not make others wait any longer.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from anonfs.vfs._inode import Inode

__all__ = ["Departing"]

_SECONDS = 1.0


class Departing:
    """The inodes that depart; ``on_note`` is told of each that begins to.

    ``on_gone`` is called whenever an inode has gone. Both are called in the middle of bookkeeping:
    they must only take note.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_note: Callable[[Inode], None] = lambda _: None
        self.on_gone: Callable[[], None] = lambda: None
        self._clock = clock
        self._until: OrderedDict[Inode, float] = OrderedDict()

    def look(self, inode: Inode) -> None:
        """A name or an open file of ``inode``, which has a reference left, has gone."""
        if _departs(inode):
            self._until[inode] = self._clock() + _SECONDS
            self._until.move_to_end(inode)
            self.on_note(inode)

    def gone(self, inode: Inode) -> None:
        """``inode`` was deleted."""
        self._until.pop(inode, None)
        self.on_gone()

    def last(self) -> float:
        """When the last of those that depart by now counts as kept; for `seconds_left`."""
        return next(reversed(self._until.values()), 0.0)

    def seconds_left(self, last: float) -> float:
        """How long those are still to be awaited that departed when `last` was asked for.

        It is 0 once none of them is.
        """
        now = self._clock()
        while self._until:
            inode, until = next(iter(self._until.items()))
            if until > now and _departs(inode):
                return max(0.0, last - now) if until <= last else 0.0
            del self._until[inode]
        return 0.0


def _departs(inode: Inode) -> bool:
    return not inode.names and not inode.opens
