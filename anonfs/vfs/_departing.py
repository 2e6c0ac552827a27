"""Departing: inodes that no name and no open file refers to, and that the kernel still knows.

What such a file has, its pages, its charges, its record, comes back when the kernel tells that it
has forgotten it, which may be a little after the unlink(2) or close(2) that did it has returned::

    last name or open gone ──▶ departing ──▶ the kernel's FORGET ──▶ gone
                                   └──▶ opened again, by a descriptor that is only a path

So who finds no room for a file may look again when one of those has gone. But a path that somebody
holds keeps a file for ever: after a second it counts as kept.
"""

import time
from collections.abc import Callable
from itertools import takewhile

from anonfs.vfs._inode import Inode

__all__ = ["Departing"]

_SECONDS = 1.0


class Departing:
    """The inodes that depart; ``on_note`` is told of each that begins to, ``on_gone`` of its end.

    The end of one that was kept is no news to those who await it no more.

    Both are called in the middle of bookkeeping: they must only take note.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_note: Callable[[Inode], None] = lambda _: None
        self.on_gone: Callable[[], None] = lambda: None
        self._clock = clock
        self._until: dict[Inode, float] = {}

    def look(self, inode: Inode) -> None:
        """A name or an open file of ``inode``, which has a reference left, has gone."""
        if _departs(inode):
            self._until.pop(inode, None)
            self._until[inode] = self._clock() + _SECONDS  # the last of them
            self.on_note(inode)

    def gone(self, inode: Inode) -> None:
        """``inode`` was deleted."""
        if self._until.pop(inode, None) is not None:
            self.on_gone()

    def awaited(self) -> dict[Inode, float]:
        """Those that will soon be gone, and for how many seconds from now on to await each."""
        now = self._clock()
        for inode in list(takewhile(lambda inode: self._until[inode] <= now, self._until)):
            del self._until[inode]
        return {inode: until - now for inode, until in self._until.items() if _departs(inode)}


def _departs(inode: Inode) -> bool:
    return not inode.names and not inode.opens
