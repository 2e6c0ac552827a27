"""Promises: the pages that frames and slots are sure to have a place for.

A page that was dirtied through a mapping has to go somewhere when the kernel writes it back, and
by then there is nobody left who could be refused: the program went on long ago, and the kernel
takes a page whose write failed for clean. So a place is promised before a page can be dirtied, as
the kernel does it for shared memory that it accounts (``shmem_acct_size`` in mm/shmem.c), and what
cannot be promised fails there and then::

    frames + slots  ├──────────────────────────────────────────────────────────┤
    capacity        ├───────────────────────────────────────────────┤
    made            ├──────────────────────────┤        free        │   slack  │

The slack is for pages in transit. A page that is on swap and is written anew takes a frame before
it gives its slot back, and a page that is being evicted has both for a while.

Some are promised a frame, since they are locked and must not go to swap. Those are few enough that
reclaim always finds others: a locked page may cost the budget twice, for it may be in a frame and
loaded, so with a quarter of the frames half of the budget is left to what is not locked.

Who is promised what is not known here: `anonfs.vfs` promises each inode its pages.
"""

import errno
from collections.abc import Callable

from anonfs.errors import AnonfsError, require
from anonfs.mm._frames import FrameArena
from anonfs.swap import SwapArea

__all__ = ["Promises"]

_LARGEST_WRITE = 256
_SLACK_SHARE = 16
_LOCKED_SHARE = 4


class Promises:
    """Counts, in pages, what was ``made`` of the room in ``frames`` and ``swap``.

    Of those ``locked`` are promised a frame.
    ``on_refusal`` is called with the pages asked for and those left when they do not suffice.
    """

    def __init__(self, frames: FrameArena, swap: SwapArea) -> None:
        self.made = 0
        self.locked = 0
        self.on_refusal: Callable[[int, int], None] = lambda _asked, _left: None
        self._frames = frames
        self._swap = swap

    @property
    def slack(self) -> int:
        """The pages that are never promised: a largest WRITE, and a share of the frames."""
        return max(_LARGEST_WRITE, self._frames.count // _SLACK_SHARE)

    @property
    def capacity(self) -> int:
        """The pages that can be promised in all. It shrinks when swap loses slots."""
        return max(0, self._frames.count + self._swap.slots - self.slack)

    @property
    def free(self) -> int:
        """The pages that can still be promised."""
        return max(0, self.capacity - self.made)

    @property
    def lockable(self) -> int:
        """The pages that can still be locked."""
        most = (self._frames.count - self.slack) // _LOCKED_SHARE
        return max(0, most - self.locked)

    def make(self, pages: int, *, locked: bool = False) -> None:
        """Promise ``pages`` more, with ``locked`` in frames.

        Raises:
            AnonfsError: ENOSPC, there are not as many; nothing was changed.
        """
        if locked and pages > self.lockable:
            detail = f"{pages} locked pages asked for, {self.lockable} left"
            raise AnonfsError(errno.ENOSPC, detail)
        if pages > self.free:
            self.on_refusal(pages, self.free)
            raise AnonfsError(errno.ENOSPC, f"{pages} pages asked for, {self.free} left")
        self.made += pages
        self.locked += pages if locked else 0

    def give_back(self, pages: int, *, locked: bool = False) -> None:
        """``pages`` that were promised are not needed any more."""
        require(0 <= pages <= self.made, "more given back than was promised")
        self.made -= pages
        self.locked -= pages if locked else 0

    def lock(self, pages: int) -> None:
        """Of what was promised, promise ``pages`` a frame.

        Raises:
            AnonfsError: ENOMEM, as shmctl(2) has it: not as many can be locked.
        """
        if pages > self.lockable:
            detail = f"{pages} pages are to be locked, {self.lockable} can be"
            raise AnonfsError(errno.ENOMEM, detail)
        self.locked += pages

    def unlock(self, pages: int) -> None:
        """End `lock`."""
        self.locked -= pages

    def check_invariants(self, promised: int, locked: int = 0) -> None:
        """What all that were promised something add up to, and those of them that are locked."""
        require(promised == self.made, f"{self.made} pages promised, {promised} counted")
        require(locked == self.locked, f"{self.locked} pages locked, {locked} counted")
