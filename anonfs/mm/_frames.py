"""The frame arena: the memory that pages in core live in.

Frame 0 is a page of zeros that nobody may write, so a gather over page entries needs no special
case for holes. ``owner`` is the reverse map: the position, in the array of all page entries, of
the entry that names the frame; 0 while the frame is free::

    frame         0      1      2      3
    page       zeros   "ab"   "cd"    -
    owner         0    513    512     0        frame 1 is the second page of leaf 1
    flags         0   IN_IO  REFD     0        and is being written to swap

A frame in I/O is immutable: its bytes are on their way to swap straight from the arena, and their
checksum was or will be made. So is one that several page entries name, see `Sharing`; its owner is
one of them. Who writes to the page takes another frame. A frame that is freed while in I/O is
reusable only when the I/O has ended. A frame that is locked is never cold, for as long as it holds
its page.

First touches of fresh memory cost more than anything else here on a virtual machine. So memory is
populated up front, and frames are reused last in, first out; but what is free can be trimmed: its
memory is given back to the system until the frame is taken again.
"""

import numpy as np
import numpy.typing as npt

from anonfs.errors import require
from anonfs.mm._free_frames import FreeFrames
from anonfs.mm._memfd import MemoryFile
from anonfs.mm._population import Population
from anonfs.swap import Shares
from anonfs.units import NUMBERS, PAGE_SHIFT, PAGE_SIZE

__all__ = ["FrameArena", "Frames"]

Frames = npt.NDArray[np.int64]

_NO_FRAMES: Frames = np.empty(0, np.int64)

_REFERENCED = 1
_LOCKED = 2
_IN_IO = 4
_SHARED = 8
_IMMUTABLE = _IN_IO | _SHARED  # the largest: a maximum finds them


class FrameArena:
    """``count`` frames, numbered from 1; ``locked`` counts those that must not go to swap."""

    def __init__(self, count: int) -> None:
        require(count < NUMBERS, "more frames than a page entry can name")
        self.count = count
        self.locked = 0
        self._file = MemoryFile("frames", (count + 1) << PAGE_SHIFT)
        self.view = self._file.view
        self.pages: npt.NDArray[np.uint8] = np.frombuffer(self.view, np.uint8).reshape(
            -1, PAGE_SIZE
        )
        self.words: npt.NDArray[np.int64] = self.pages.view(np.int64)
        self.owner = np.zeros(count + 1, np.uint32)
        self._flags = np.zeros(count + 1, np.uint8)
        self.shares = Shares(count)
        self._free = FreeFrames(count)
        self.population = Population(self._file, self._free)

    @property
    def free(self) -> int:
        """The frames that can be allocated."""
        return len(self._free)

    @property
    def used(self) -> int:
        """The frames that hold a page, or whose I/O has not ended."""
        return self.count - self.free

    @property
    def evictable(self) -> int:
        """The frames that are used and not locked."""
        return self.used - self.locked

    @property
    def resident(self) -> int:
        """The frames that have memory: all that are used, and of the free those not trimmed."""
        return self.count - self._free.without_memory

    def allocate(self, wanted: int) -> Frames:
        """Exactly ``wanted`` frames, which the caller has seen to be free."""
        require(wanted <= self.free, "more frames allocated than are free")
        return self._free.pop(wanted)

    def release(self, frames: Frames) -> None:
        """Free ``frames`` (no number twice), whoever shares them.

        Those in I/O follow at `end_io`.
        """
        self.shares.forget(frames)
        in_io = self.in_io(frames)
        self.owner[frames] = 0
        self._flags[frames] &= _IN_IO
        self._free.push(frames[~in_io])

    def share(self, frames: Frames) -> None:
        """One more entry names each of ``frames``."""
        self.shares.add(frames)
        self._flags[frames] |= _SHARED

    def drop(self, frames: Frames) -> Frames:
        """One entry less names each of ``frames``: free those that none does, return the others."""
        if not self.shares.total:
            self.release(frames)
            return frames[:0]
        last = self.shares.drop(frames)
        self.release(frames[last])
        kept = frames[~last]
        self._flags[kept[self.shares.more(kept) == 0]] &= ~np.uint8(_SHARED)
        return kept

    def trim(self, wanted: int) -> int:
        """Give the memory of up to ``wanted`` free frames back to the system; returns how many.

        Those that have rested longest; one request for each run of neighbours. None while a step
        of the population is under way, and it is the last then: memory is asked back.
        """
        self.population.end()
        if self.population.under_way:
            return 0
        frames = self._free.bottom(wanted)
        breaks = np.flatnonzero(np.diff(frames) != 1) + 1
        for run in np.split(frames, breaks) if frames.size else ():
            self._file.punch(int(run[0]) << PAGE_SHIFT, run.size << PAGE_SHIFT)
        self._free.strip_bottom(frames.size)
        return int(frames.size)

    # -- flags -----------------------------------------------------------------------------

    def note_use(self, frames: Frames) -> None:
        """``frames`` were read or written: they are not cold."""
        self._flags[frames] |= _REFERENCED

    def note_use_of_run(self, first: int, count: int) -> None:
        """The same of ``count`` neighbours, in a third of the time."""
        flags = self._flags[first : first + count]
        flags |= _REFERENCED

    def cool(self, frames: slice) -> None:
        """``frames`` are cold until the next use."""
        self._flags[frames] &= ~np.uint8(_REFERENCED)

    def cold(self, frames: slice) -> npt.NDArray[np.bool_]:
        """Which of ``frames`` hold a page that may be evicted and was not used of late."""
        found: npt.NDArray[np.bool_] = (self.owner[frames] != 0) & (
            self._flags[frames] & ~np.uint8(_SHARED) == 0
        )
        return found

    def lock(self, frames: Frames) -> None:
        """Keep ``frames``, which hold pages, until `unlock`; some may be locked already."""
        fresh = frames[self._flags[frames] & _LOCKED == 0]
        self._flags[fresh] |= _LOCKED
        self.locked += fresh.size

    def unlock(self, frames: Frames) -> None:
        """End `lock` of ``frames``, which are locked, before they are released."""
        self._flags[frames] &= ~np.uint8(_LOCKED)
        self.locked -= frames.size

    def in_io(self, frames: Frames | slice) -> npt.NDArray[np.bool_]:
        """Which of ``frames`` are in I/O."""
        found: npt.NDArray[np.bool_] = (self._flags[frames] & _IN_IO) != 0
        return found

    def movable(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """Which of ``frames`` may go to swap: those that are neither in I/O nor locked."""
        found: npt.NDArray[np.bool_] = self._flags[frames] & (_IN_IO | _LOCKED) == 0
        return found

    def immutable(self, frames: Frames) -> npt.NDArray[np.bool_]:
        """Which of ``frames`` must not be written: those in I/O, and those that are shared."""
        found: npt.NDArray[np.bool_] = (self._flags[frames] & _IMMUTABLE) != 0
        return found

    def run_immutable(self, first: int, count: int) -> bool:
        """Whether any of ``count`` neighbours must not be written."""
        return bool(self._flags[first : first + count].max() >= _IN_IO)

    def begin_io(self, frames: Frames) -> None:
        """Keep ``frames`` from being written, reused or picked for reclaim until `end_io`."""
        self._flags[frames] |= _IN_IO

    def end_io(self, frames: Frames) -> None:
        """End `begin_io`; what was released meanwhile becomes free."""
        self._flags[frames] &= ~np.uint8(_IN_IO)
        self._free.push(frames[self.owner[frames] == 0])

    # -- all of it -------------------------------------------------------------------------

    def close(self) -> None:
        """Give the memory back."""
        self._file.close()

    def check_invariants(self, locked: Frames = _NO_FRAMES) -> None:
        """Recount the free frames and look at the page of zeros; ``locked`` are all that are."""
        flagged = np.flatnonzero(self._flags & _LOCKED)
        require(np.array_equal(np.sort(locked), flagged), "locked frames and locked pages differ")
        require(flagged.size == self.locked, "locked frames miscounted")
        idle = (self.owner == 0) & ~self.in_io(slice(None))
        idle[0] = False
        self._free.check_invariants(np.flatnonzero(idle))
        require(not self._flags[idle].any(), "a free frame is referenced")
        require(not self.pages[0].any(), "the page of zeros was written")
        require(self.owner[0] == 0, "the page of zeros is owned")
        every = np.arange(self.count + 1)
        shared = self._flags & _SHARED != 0
        require(np.array_equal(self.shares.more(every) > 0, shared), "a shared frame is not marked")
