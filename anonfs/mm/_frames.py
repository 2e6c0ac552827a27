"""The frame arena: the memory that pages in core live in.

Frame 0 is a page of zeros that nobody may write, so a gather over page entries needs no special
case for holes. ``owner`` is the reverse map: the position, in the array of all page entries, of
the entry that names the frame; 0 while the frame is free::

    frame       0      1      2      3
    page     zeros   "ab"   "cd"    -
    owner       0    513    512     0        frame 1 is the second page of leaf 1
    in I/O      0      1      0     0        and is being written to swap

A frame freed while in I/O is reusable only when the I/O has ended. First touches of fresh memory
cost more than anything else here on a virtual machine, so memory is populated up front and frames
are reused last in, first out.
"""

import numpy as np
import numpy.typing as npt

from anonfs.errors import require
from anonfs.mm._memfd import MemoryFile
from anonfs.swap import aligned_pages
from anonfs.units import PAGE_SHIFT, PAGE_SIZE

__all__ = ["FrameArena", "Frames"]

Frames = npt.NDArray[np.int64]

_POPULATE_STEP = 32 << 20


class FrameArena:
    """``count`` frames, numbered from 1."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._file = MemoryFile("frames", (count + 1) << PAGE_SHIFT)
        self.view = self._file.view
        self.pages: npt.NDArray[np.uint8] = np.frombuffer(self.view, np.uint8).reshape(
            -1, PAGE_SIZE
        )
        self.owner = np.zeros(count + 1, np.uint32)
        self.referenced = np.zeros(count + 1, np.bool_)
        self.in_io = np.zeros(count + 1, np.bool_)
        self.redirtied = np.zeros(count + 1, np.bool_)
        # A stack whose top is its end, so that frames leave it as ascending neighbours.
        self._free = np.arange(count, 0, -1, dtype=np.int64)
        self.free = count

    @property
    def used(self) -> int:
        """The frames that hold a page, or whose I/O has not ended."""
        return self.count - self.free

    @property
    def resident(self) -> int:
        return self.used

    def trim(self, wanted: int) -> int:
        return 0

    def allocate(self, wanted: int) -> Frames:
        """Exactly ``wanted`` frames, which the caller has seen to be free."""
        require(wanted <= self.free, "more frames allocated than are free")
        self.free -= wanted
        return self._free[self.free : self.free + wanted][::-1].copy()

    def release(self, frames: Frames) -> None:
        """Free ``frames`` (no number twice); those in I/O follow at `end_io`."""
        self.owner[frames] = 0
        self.referenced[frames] = False
        self._push(frames[~self.in_io[frames]])

    def copy(self, frames: Frames) -> npt.NDArray[np.uint8]:
        """The pages in ``frames`` as they are now, page-aligned."""
        # Any mode but the default writes to the buffer without one more in between.
        return self.pages.take(frames, axis=0, out=aligned_pages(frames.size), mode="clip")

    def begin_io(self, frames: Frames) -> None:
        """Keep ``frames`` from being reused or picked for reclaim until `end_io`."""
        self.in_io[frames] = True
        self.redirtied[frames] = False

    def end_io(self, frames: Frames) -> None:
        """End `begin_io`; what was released meanwhile becomes free."""
        self.in_io[frames] = False
        self._push(frames[self.owner[frames] == 0])

    def note_write(self, frames: Frames | slice) -> None:
        """``frames`` got new contents: they are not cold, and what I/O writes of them is old."""
        self.referenced[frames] = True
        self.redirtied[frames] = True

    def _push(self, frames: Frames) -> None:
        # Descending, so that they come back as ascending neighbours.
        self._free[self.free : self.free + frames.size] = np.sort(frames)[::-1]
        self.free += frames.size

    def populate(self) -> None:
        """Allocate all memory now; for a thread of its own, since it takes seconds for gigabytes.

        Raises OSError: memory ran out.
        """
        for offset in range(0, self._file.size, _POPULATE_STEP):
            self._file.populate(offset, min(_POPULATE_STEP, self._file.size - offset))

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()

    def check_invariants(self) -> None:
        """Recount the free frames and look at the page of zeros."""
        free = self._free[: self.free]
        idle = (self.owner == 0) & ~self.in_io
        idle[0] = False
        require(np.array_equal(np.sort(free), np.flatnonzero(idle)), "free frames miscounted")
        require(not self.pages[0].any(), "the page of zeros was written")
        require(self.owner[0] == 0, "the page of zeros is owned")
