"""Memory: the engine's calls on the pages of an inode.

It alone hands frames and slots to page entries and takes them back. It is called with its owner's
lock held and nothing waits: where a call needs swap I/O it hands out `Work`, whose run alone is for
any thread without the lock. Each call costs a few vector operations for each leaf of 512 pages that
it touches, none for each page.

To write, a caller first performs what `work_for_frames` and `work_to_complete` hand out, until
both have nothing more, and then calls `write` without waiting in between: so it never fails for
want of a frame. `anonfs.mm.sync` does that for callers without an event loop.

A frame that is on its way to swap is immutable, and so is one that copies of an inode share (see
`Sharing`). A write to its page takes another frame, as if the page were not in core, and copies
what it leaves out of the page from the old one.

An inode that is locked keeps its pages in core, as SHM_LOCK of shmctl(2) has it: what is in a frame
stays there, what is loaded stays loaded, and what is on swap already is for the caller to bring in,
see `pages_to_bring_in`. How much may be locked is for `Promises` to say.
"""

import errno
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from anonfs.errors import AnonfsError, require
from anonfs.mm._anon_inode_info import AnonInodeInfo, Span
from anonfs.mm._counters import Counters
from anonfs.mm._cut import PageCut
from anonfs.mm._entry import (
    Entries,
    PageState,
    first_of_run,
    in_core,
    numbers,
    states,
)
from anonfs.mm._fault import FrontLoad, PageLoad
from anonfs.mm._frames import Frames
from anonfs.mm._freeing import Freeing
from anonfs.mm._front import Front
from anonfs.mm._image import Image
from anonfs.mm._leaves import LEAF_SHIFT
from anonfs.mm._loaded import LoadedPages
from anonfs.mm._promises import Promises
from anonfs.mm._reading import Reading
from anonfs.mm._reclaim import Clock, Eviction, movable
from anonfs.mm._sharing import Sharing
from anonfs.swap import SwapArea
from anonfs.units import PAGE_SHIFT, PAGE_SIZE, Ino, pages_for

__all__ = ["EVICTION_BATCH", "Memory", "Parts"]

EVICTION_BATCH = 256
"""Pages that one eviction writes at most: a mebibyte, where a disk's throughput levels off."""

_BRING_IN_BATCH = 64
"""Pages that come in at once: each takes a moment of the lock."""

_TO_THE_END = 1 << 62
"""More pages than there can be."""

Parts = Sequence[tuple[int, int]]
"""What is to be written of an inode: (offset, size), no page in two of them."""


class Memory:
    """Frames, swap and page tables of one mount."""

    def __init__(self, image: Image, swap: SwapArea) -> None:
        self.frames = image.frames
        self.leaves = image.leaves
        self.swap = swap
        self.sharing = Sharing(image.frames, swap, image.leaves)
        self.freeing = Freeing(image.frames, swap, image.leaves, self.sharing)
        self.promises = Promises(image.frames, swap)
        self.loaded = LoadedPages()
        self.infos: set[AnonInodeInfo] = set()
        self.overlays = 0
        """How many of them have a front."""
        self.evictions: set[Eviction] = set()
        self.cuts: set[PageCut] = set()
        self.counters = Counters()
        self.reading = Reading(self)
        self._clock = Clock(image.frames)

    def create(self, ino: Ino) -> AnonInodeInfo:
        """An empty page table for inode ``ino``."""
        info = AnonInodeInfo(ino, self.leaves)
        self.infos.add(info)
        return info

    def clone(self, source: AnonInodeInfo, ino: Ino, *, lazy: bool) -> AnonInodeInfo:
        """A page table for inode ``ino`` with all pages of ``source``: copied when written to.

        See `Sharing` for what is ``lazy``.

        Raises:
            AnonfsError: ENOSPC, there are no more leaves; EAGAIN, a page of ``source`` is being cut
                where it is: try again when one of the `cuts` has ended. Nothing was changed.
        """
        if any(cut.info is source and cut.in_place for cut in self.cuts):
            raise AnonfsError(errno.EAGAIN, "a page is being cut")
        copy = AnonInodeInfo(ino, self.leaves)
        self.sharing.clone(source, copy, lazy=lazy)
        if source.front is not None:
            self.put_over(copy, source.front, source.front_end)
            copy.hidden = source.hidden.copy()
        self.infos.add(copy)
        return copy

    def delete(self, info: AnonInodeInfo) -> None:
        """Free the pages of ``info`` that it shares with nobody, and forget it."""
        self.freeing.clear(info)
        self.loaded.drop(info)
        self.infos.discard(info)
        if info.front is not None:
            self.overlays -= 1
            info.leave_front()

    def put_over(self, info: AnonInodeInfo, front: Front, end: int) -> None:
        """Let ``info``, which has no front, show ``front`` up to byte ``end``."""
        info.put_over(front, end)
        self.overlays += 1

    # -- writing ---------------------------------------------------------------------------

    def work_to_complete(self, info: AnonInodeInfo, parts: Parts) -> PageLoad | FrontLoad | None:
        """What must be loaded next before ``parts`` can be written, or None.

        That is the first and the last page of each, where they are on swap or show the front and
        only a part is written. It takes a frame for each; they are among the `frames_wanted`.
        """
        loads = (self._work_to_complete(info, *part) for part in parts)
        return next((load for load in loads if load is not None), None)

    def _work_to_complete(
        self, info: AnonInodeInfo, offset: int, size: int
    ) -> PageLoad | FrontLoad | None:
        end = offset + size
        partial = {offset >> PAGE_SHIFT} if offset % PAGE_SIZE else set()
        if end % PAGE_SIZE:
            partial.add(end >> PAGE_SHIFT)
        if not partial:
            return None
        swapped = self._swapped(info, sorted(partial))
        if swapped:
            return PageLoad(self, info, swapped)
        shown = self._shown_around(info, sorted(partial), offset, end)
        return FrontLoad(self, info, shown) if shown else None

    @staticmethod
    def _shown_around(info: AnonInodeInfo, pages: list[int], start: int, end: int) -> list[int]:
        """Which of ``pages`` show the front before byte ``start`` or from byte ``end`` on."""
        return [
            page
            for page in pages
            if (page << PAGE_SHIFT < min(start, info.front_end) or end < info.front_end)
            and info.shows_front_at(page)
        ]

    def shares(self, info: AnonInodeInfo, page: int) -> bool:
        """Whether others name what the page is in, which exists."""
        span = next(info.spans(page, 1))
        number = numbers(span.entries)
        in_core = states(span.entries)[0] == PageState.IN_CORE
        shares = self.frames.shares if in_core else self.swap.shares
        return self.leaves.is_shared(span.position >> LEAF_SHIFT) or bool(shares.more(number)[0])

    def frames_wanted(self, info: AnonInodeInfo, parts: Parts) -> int:
        """How many frames writes of ``parts`` take at most; exact where not as many are free."""
        ranges = [(offset >> PAGE_SHIFT, pages_for(offset + size)) for offset, size in parts]
        count = sum(end - first for first, end in ranges)
        if count <= self.frames.free:
            return count
        spans = (span for first, end in ranges for span in info.spans(first, end - first))
        return count - sum(int(np.count_nonzero(self._writable(span))) for span in spans)

    @staticmethod
    def _swapped(info: AnonInodeInfo, pages: list[int]) -> list[int]:
        return [page for page in pages if states(info.entries(page, 1))[0] == PageState.ON_SWAP]

    def write(self, info: AnonInodeInfo, offset: int, data: bytes | memoryview) -> None:
        """Store ``data`` at ``offset``: there are `frames_wanted`, and nothing to complete.

        Raises:
            AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
        """
        size = len(data)
        first = offset >> PAGE_SHIFT
        source = memoryview(data)
        count = pages_for(offset + size) - first
        if self.leaves.sharers:
            self.sharing.own(info, first, count)
        for span in info.spans_for_write(first, count):
            begin = max(offset, span.first << PAGE_SHIFT)
            end = min(offset + size, (span.first + span.entries.size) << PAGE_SHIFT)
            self._write_span(info, span, begin, source[begin - offset : end - offset])
        if info.hidden:
            info.hidden.remove(first, first + count)

    def _write_span(self, info: AnonInodeInfo, span: Span, offset: int, data: memoryview) -> None:
        head = offset & (PAGE_SIZE - 1)
        frame = first_of_run(span.entries)
        if frame and not self.frames.run_immutable(frame, span.entries.size):
            self._fill_run(frame, span.entries.size, head, data)
            return
        missing = np.flatnonzero(~self._writable(span))
        fresh = self.frames.allocate(missing.size)
        entries = span.entries.copy()
        entries[missing] = in_core(fresh)
        self._keep_around(span, missing, fresh, offset, len(data))
        self._fill(entries, head, data)
        self._publish(info, span, missing, fresh)

    def _writable(self, span: Span) -> npt.NDArray[np.bool_]:
        """Which entries of ``span`` name a frame that may be written."""
        if self.leaves.is_shared(span.position >> LEAF_SHIFT):
            return np.zeros(span.entries.size, np.bool_)
        held: npt.NDArray[np.bool_] = states(span.entries) == PageState.IN_CORE
        held[held] = ~self.frames.immutable(numbers(span.entries[held]))
        return held

    def _keep_around(
        self, span: Span, missing: Entries, fresh: Frames, offset: int, size: int
    ) -> None:
        """Copy what a write of ``size`` bytes leaves out of the pages that get a fresh frame.

        From the frame that the page is in, which is immutable, or else from the frame of zeros.
        """
        head = offset & (PAGE_SIZE - 1)
        tail = (offset + size) & (PAGE_SIZE - 1)
        if head and missing.size and missing[0] == 0:
            self._copy_part(span.entries[:1], fresh[0], slice(0, head))
        if tail and missing.size and missing[-1] == span.entries.size - 1:
            self._copy_part(span.entries[-1:], fresh[-1], slice(tail, PAGE_SIZE))

    def _copy_part(self, entry: Entries, frame: int, part: slice) -> None:
        source = numbers(entry)[0] if states(entry)[0] == PageState.IN_CORE else 0
        self.frames.pages[frame, part] = self.frames.pages[source, part]

    def _fill(self, entries: Entries, head: int, data: memoryview) -> None:
        """Copy ``data`` into the frames of ``entries``, from byte ``head`` of the first."""
        frame = first_of_run(entries)
        if frame:
            self._fill_run(frame, entries.size, head, data)
            return
        if head:
            part = PAGE_SIZE - head
            self._fill(entries[:1], head, data[:part])
            entries, data = entries[1:], data[part:]
        whole = len(data) >> PAGE_SHIFT
        rows = np.frombuffer(data[: whole << PAGE_SHIFT], np.uint8).reshape(-1, PAGE_SIZE)
        frames = numbers(entries[:whole])
        self.frames.pages[frames] = rows
        self.frames.note_use(frames)
        if len(data) > whole << PAGE_SHIFT:
            self._fill(entries[whole:], 0, data[whole << PAGE_SHIFT :])

    def _fill_run(self, frame: int, count: int, head: int, data: memoryview) -> None:
        start = (frame << PAGE_SHIFT) + head
        self.frames.view[start : start + len(data)] = data
        self.frames.note_use_of_run(frame, count)

    def _publish(self, info: AnonInodeInfo, span: Span, rows: Entries, frames: Frames) -> None:
        """Let the entries at ``rows`` of ``span`` name ``frames``, which hold their pages."""
        old = span.entries[rows]
        span.entries[rows] = in_core(frames)
        self.frames.owner[frames] = span.position + rows
        info.in_core += rows.size
        if info.locked:
            self.frames.lock(frames)
        self.freeing.release(info, old)

    def store_page(self, info: AnonInodeInfo, page: int, data: npt.NDArray[np.uint8]) -> None:
        """Put a whole page into a frame; one is free."""
        self.write(info, page << PAGE_SHIFT, data.data)

    def move_to_swap(self, info: AnonInodeInfo, page: int, entry: Entries) -> None:
        """Let ``page`` be in the slot that ``entry`` names, and nobody else's entry does.

        Raises:
            AnonfsError: ENOSPC, there are no more leaves; nothing was changed.
        """
        self.sharing.own(info, page, 1)
        span = next(info.spans(page, 1))
        old = span.entries.copy()
        span.entries[:] = entry
        info.on_swap += 1
        self.freeing.release(info, old)

    # -- locking ---------------------------------------------------------------------------

    def lock(self, info: AnonInodeInfo) -> None:
        """Keep pages of ``info`` that are in core or loaded where they are, on their way or not.

        Those that come in later are kept as well. It is not locked yet.
        """
        info.locked = True
        frames = self._frames_of(info)
        self.frames.lock(frames)
        for eviction in self.evictions:
            eviction.overtake(frames)
        self.loaded.note_lock(info)

    def unlock(self, info: AnonInodeInfo) -> None:
        """End `lock`."""
        info.locked = False
        frames = self._frames_of(info)
        self.frames.unlock(frames)
        self.sharing.lock_again(frames)
        self.loaded.note_unlock(info)

    @staticmethod
    def _frames_of(info: AnonInodeInfo) -> Frames:
        spans = info.spans(0, _TO_THE_END)
        entries = [np.empty(0, np.int64), *(span.entries for span in spans)]
        found = np.concatenate(entries)
        return numbers(found[states(found) == PageState.IN_CORE])

    @staticmethod
    def pages_to_bring_in(info: AnonInodeInfo, first: int) -> list[int]:
        """The next pages of ``info`` from ``first`` on that are on swap, some at a time.

        Where so many frames are free, see `work_for_frames`, a `PageLoad` brings them in.
        """
        for span in info.spans(first, _TO_THE_END):
            found = np.flatnonzero(states(span.entries) == PageState.ON_SWAP)[:_BRING_IN_BATCH]
            if found.size:
                pages: list[int] = (span.first + found).tolist()
                return pages
        return []

    # -- reclaim ---------------------------------------------------------------------------

    def work_to_evict(self, wanted: int) -> Eviction | None:
        """An eviction of up to ``wanted`` cold pages, and not more than a batch.

        None where nothing can be evicted now: nothing is idle, or swap has no slot.
        """
        return self._evict(self._clock.pick(min(wanted, EVICTION_BATCH)))

    def work_for_frames(self, wanted: int) -> Eviction | None:
        """An eviction towards ``wanted`` free frames, or None if there are as many.

        Raises:
            AnonfsError: ENOSPC, there is nothing that could be evicted, or no slot for it; EIO,
                swap cannot be written; EAGAIN, all that could be is on its way: look again when
                one of the `evictions` has ended.
        """
        if wanted <= self.frames.free:
            return None
        if wanted > self.frames.count:
            raise AnonfsError(errno.ENOSPC, "one write is larger than the budget")
        eviction = self.work_to_evict(EVICTION_BATCH)
        if eviction is None:
            raise self._why_none()
        return eviction

    def work_to_swap_out(
        self, info: AnonInodeInfo, first: int, last: int
    ) -> tuple[Eviction | None, int]:
        """An eviction of the first pages in core from ``first`` to ``last``, at most a batch.

        Returns it with the page to go on from, beyond ``last`` when that was all.

        Pages that are on their way already are passed over, and so are those that are locked.

        Raises:
            AnonfsError: ENOSPC, swap is full; EIO, it cannot be written; EAGAIN, slots may come
                free when one of the `evictions` has ended.
        """
        for span in info.spans(first, last - first + 1):
            rows = movable(self.frames, span.entries)[:EVICTION_BATCH]
            frames = numbers(span.entries[rows])
            if not frames.size:
                continue
            eviction = self._evict(frames)
            if eviction is None:
                raise self._why_none()
            if eviction.pages < frames.size:
                return eviction, span.first  # The rest finds swap full, if it still is.
            return eviction, span.first + int(rows[-1]) + 1
        return None, last + 1

    def _evict(self, frames: Frames) -> Eviction | None:
        if not frames.size:
            return None
        eviction = Eviction(self, frames)
        if not eviction.pages:
            return None
        self.evictions.add(eviction)
        return eviction

    def _why_none(self) -> AnonfsError:
        """Why no eviction could be begun."""
        if self.swap.failing:
            return AnonfsError(errno.EIO, "swap cannot be written")
        if self.evictions:
            return AnonfsError(errno.EAGAIN, "evictions are under way")
        return AnonfsError(errno.ENOSPC, "swap is full")

    # -- checking --------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Recount frames and slots from the page entries."""
        locked = [np.empty(0, np.int64)]
        locked += [self._frames_of(info) for info in self.infos if info.locked]
        self.frames.check_invariants(np.unique(np.concatenate(locked)))
        self.swap.check_invariants()
        self.leaves.check_invariants()
        self.loaded.check_invariants()
        for info in self.infos:
            info.check_invariants()
        positions = self.leaves.live_positions()
        entries = self.leaves.entries[positions]
        kinds = states(entries)
        self._check_frames(positions, entries, kinds == PageState.IN_CORE)
        slots = numbers(entries[kinds == PageState.ON_SWAP])
        self.swap.shares.check_invariants(slots)
        leaving = [eviction.slots for eviction in self.evictions]
        moving = [cut.slots for cut in self.cuts]
        expected = np.sort(np.concatenate([np.unique(slots), *leaving, *moving]))
        require(np.array_equal(expected, self.swap.in_use()), "slots used and referenced differ")

    def _check_frames(
        self, positions: Entries, entries: Entries, held: npt.NDArray[np.bool_]
    ) -> None:
        frames = numbers(entries[held])
        self.frames.shares.check_invariants(frames)
        owned = np.flatnonzero(self.frames.owner)
        require(np.array_equal(np.unique(frames), owned), "frames used and referenced differ")
        owners = self.leaves.entries[self.frames.owner[owned]]
        require(np.array_equal(owners, in_core(owned)), "frame owner is wrong")
        found, which = self.sharing.names(owned)
        require(np.array_equal(found, np.sort(positions[held])), "the kin do not name all sharers")
        require(np.array_equal(in_core(owned[which]), self.leaves.entries[found]), "wrong names")
