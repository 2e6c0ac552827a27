"""The budget: what frames and loaded pages may cost together, and when to reclaim.

A mount costs memory twice: the frames that the daemon keeps pages in, and the pages that the
kernel's page cache holds of its files. The budget bounds the sum::

    0         frames for pages in transit                    target   start   pages       high
    ├─────────────┼──────────────────────────────────────────────┼───────┼──────┼──────────┤
                  staging                          reclaim goes  ◀───────┤      │  READs wait
                                                    down to here         │
                                                               it begins here

While there is room nothing is reclaimed, and a page may be both in a frame and loaded. When there
is none, what goes first is free frames, then frames (to swap) down to the staging that pages need
on their way, then loaded pages: one that is loaded takes no fault at all, one in a frame takes one.
"""

from anonfs.mm._frames import FrameArena
from anonfs.mm._loaded import LoadedPages

__all__ = ["Budget"]

_LARGEST_WRITE = 256


class Budget:
    """The budget of ``pages``, spent on ``frames`` and on ``loaded`` pages."""

    def __init__(self, pages: int, frames: FrameArena, loaded: LoadedPages) -> None:
        self.pages = pages
        self.staging = max(_LARGEST_WRITE, pages // 8)
        self.start = pages - pages // 32
        self.target = pages - pages // 16
        self.high = pages + pages // 32
        self._frames = frames
        self._loaded = loaded

    @property
    def cost(self) -> int:
        """The pages of memory that the mount takes now."""
        return self._frames.resident + self._loaded.pages

    @property
    def excess(self) -> int:
        """The pages that should be reclaimed once reclaim has begun; 0 or less: none."""
        return self.cost - self.target

    @property
    def pressure(self) -> int:
        """The excess that is left when all free frames are given up; 0 or less: none."""
        return max(self._frames.used, self.staging) + self._loaded.pages - self.target

    @property
    def is_short(self) -> bool:
        """Whether reclaim should begin."""
        return self.cost > self.start

    @property
    def is_exceeded(self) -> bool:
        """Whether READs that load more are to wait for reclaim."""
        return self.cost > self.high
