"""Loaded pages: what the kernel's page cache holds of each inode, as far as can be known here.

A page gets there by a READ that was answered or a WRITE that was taken, and leaves by an
invalidation, a truncation or the end of its inode. What the kernel drops by itself stays counted
until the hand comes by, so the count may be too large but never too small.

Pages are kept by chunks of 512, each set of them in an integer of 512 bits, and chunks in a queue
at whose head is the hand::

    hand ─▶ inode 7, chunk 0     inode 7, chunk 1     inode 9, chunk 4 ◀─ first page just loaded

    loaded    1 1 1 1 0 1 1 0
    active    0 0 1 0 0 0 0 0     came back after it had been unloaded: passed over once
    ghosts    0 0 0 0 1 0 0 1     unloaded when the hand last came by

Nobody tells of a hit, only of a miss. So, as in mm/workingset.c, a page that faults again soon
after it went is taken for hot. `LoadedPages.begin` hands out what is cold, as an `Unload`; between
that and `LoadedPages.end` the pages still count, and those that are loaded again meanwhile stay.
The pages of a locked inode are in no queue: the hand never comes to them.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anonfs.errors import require
from anonfs.mm._entry import Entries, PageState, states
from anonfs.mm._leaves import ENTRIES_PER_LEAF, LEAF_SHIFT

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo

__all__ = ["LoadedPages", "Unload"]

_ALL = (1 << ENTRIES_PER_LEAF) - 1


class _Chunk:
    """The pages of ``info`` from ``index * 512`` on; all sets are bits of integers."""

    __slots__ = (
        "active",
        "ghosts",
        "held_back",
        "index",
        "info",
        "loaded",
        "reloaded",
        "unloading",
    )

    def __init__(self, info: "AnonInodeInfo", index: int) -> None:
        self.info = info
        self.index = index
        self.loaded = self.active = self.ghosts = self.unloading = self.reloaded = 0
        self.held_back = 0


@dataclass(slots=True)
class Unload:
    """Pages on their way out of the page cache: ``runs`` are (first page, count) of ``info``."""

    info: "AnonInodeInfo"
    runs: list[tuple[int, int]] = field(default_factory=list)
    pages: int = 0
    chunks: list[_Chunk] = field(default_factory=list)


class LoadedPages:
    """The loaded pages of a mount: ``pages`` counts them.

    ``refaulted`` pages came back soon after they had gone; ``scanned`` and ``unloaded`` are pages
    that the hand looked at and that went. The hand passes over the inodes that are ``alone``: of
    each, whoever put it there unloads what has to be.
    """

    def __init__(self) -> None:
        self.pages = 0
        self.refaulted = 0
        self.scanned = 0
        self.unloaded = 0
        self._chunks: dict[AnonInodeInfo, dict[int, _Chunk]] = {}
        self._queue: OrderedDict[_Chunk, None] = OrderedDict()
        self.alone: set[AnonInodeInfo] = set()
        self._ranged: dict[AnonInodeInfo, tuple[int, int]] = {}

    # -- loading ---------------------------------------------------------------------------

    def load(self, info: "AnonInodeInfo", first: int, count: int, *, touched: bool = True) -> None:
        """``count`` pages from ``first`` are in the page cache now.

        Not ``touched`` are those that nobody asked for yet, and those that were written.
        """
        for chunk, mask in self._parts(info, first, count):
            if chunk.unloading:
                chunk.reloaded |= mask
            self._add(chunk, mask & ~chunk.loaded, touched=touched)

    def note_write_back(self, info: "AnonInodeInfo", first: int, count: int) -> None:
        """``count`` pages from ``first`` were in the page cache, and may be on their way out."""
        for chunk, mask in self._parts(info, first, count):
            self._add(chunk, mask & ~chunk.loaded, touched=False)

    def _add(self, chunk: _Chunk, fresh: int, *, touched: bool) -> None:
        if not fresh:
            return
        chunk.reloaded |= fresh
        again = fresh & chunk.ghosts
        if again and touched:
            chunk.active |= again
            self.refaulted += again.bit_count()
        chunk.ghosts &= ~fresh
        chunk.loaded |= fresh
        self.pages += fresh.bit_count()
        self._enqueue(chunk)

    def _enqueue(self, chunk: _Chunk) -> None:
        if not chunk.info.locked:
            self._queue.setdefault(chunk)

    def _settle(self, chunk: _Chunk) -> None:
        """Queue ``chunk`` if it has loaded pages; keep nothing of one that nothing is known of."""
        if chunk.loaded:
            self._enqueue(chunk)
            return
        self._queue.pop(chunk, None)
        if not (chunk.ghosts or chunk.unloading or chunk.held_back):
            chunks = self._chunks[chunk.info]
            del chunks[chunk.index]
            if not chunks:
                del self._chunks[chunk.info]

    def _parts(self, info: "AnonInodeInfo", first: int, count: int) -> Iterator[tuple[_Chunk, int]]:
        """The chunks of a range, made where there are none, each with the bits of its pages."""
        chunks = self._chunks.get(info)
        if chunks is None:
            chunks = self._chunks[info] = {}
        end = first + count
        while first < end:
            index = first >> LEAF_SHIFT
            low = first & (ENTRIES_PER_LEAF - 1)
            part = min(end - first, ENTRIES_PER_LEAF - low)
            chunk = chunks.get(index)
            if chunk is None:
                chunk = chunks[index] = _Chunk(info, index)
            yield chunk, ((1 << part) - 1) << low
            first += part

    def _known(self, info: "AnonInodeInfo", first: int, count: int) -> Iterator[tuple[_Chunk, int]]:
        """As `_parts`, but only those chunks that there are."""
        chunks = self._chunks.get(info, {})
        indexes = range(first >> LEAF_SHIFT, ((first + count - 1) >> LEAF_SHIFT) + 1)
        for index in indexes if len(indexes) <= len(chunks) else sorted(chunks):
            chunk = chunks.get(index)
            if chunk is not None and index in indexes:
                base = index << LEAF_SHIFT
                low = max(first - base, 0)
                high = min(first + count - base, ENTRIES_PER_LEAF)
                yield chunk, (1 << high) - (1 << low)

    def mask(self, info: "AnonInodeInfo", first: int, count: int) -> npt.NDArray[np.bool_]:
        """Which of ``count`` pages from ``first`` are loaded."""
        found = np.zeros(count, np.bool_)
        for chunk, mask in self._known(info, first, count):
            base = chunk.index << LEAF_SHIFT
            low, high = max(first, base), min(first + count, base + ENTRIES_PER_LEAF)
            bits = _as_array(chunk.loaded & mask)
            found[low - first : high - first] = bits[low - base : high - base]
        return found

    def of(self, info: "AnonInodeInfo") -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
        """The chunks of ``info`` with loaded pages: the first page, and which of 512 are."""
        for index, chunk in self._chunks.get(info, {}).items():
            if chunk.loaded:
                yield index << LEAF_SHIFT, _as_array(chunk.loaded)

    def chunks_of(self, info: "AnonInodeInfo") -> Collection[int]:
        """The indexes of the chunks that the loaded pages of ``info`` are in, and some more."""
        return self._chunks.get(info, {}).keys()

    @property
    def on_swap(self) -> int:
        """How many of the loaded pages are on swap as well; a walk."""
        return sum(
            int(np.count_nonzero(loaded & (states(_entries(info, first)) == PageState.ON_SWAP)))
            for info in self._chunks
            for first, loaded in self.of(info)
        )

    # -- locking ---------------------------------------------------------------------------

    def note_lock(self, info: "AnonInodeInfo") -> None:
        """``info`` was locked: keep the hand away from its pages."""
        for chunk in self._chunks.get(info, {}).values():
            self._queue.pop(chunk, None)

    def note_unlock(self, info: "AnonInodeInfo") -> None:
        """``info`` was unlocked: its pages are for the hand again."""
        for chunk in self._chunks.get(info, {}).values():
            if chunk.loaded and not chunk.unloading:
                self._enqueue(chunk)

    # -- holding back ----------------------------------------------------------------------

    def is_unloading(self, info: "AnonInodeInfo", first: int, count: int) -> bool:
        """Whether pages of a range, or their neighbours, are on their way out.

        The kernel waits for a page that is being read before it drops it, so a READ of such a
        range may not wait for the unload.
        """
        start, size = self._ranged.get(info, (0, 0))
        if first < start + size and start < first + count:
            return True
        return any(chunk.unloading for chunk, _ in self._known(info, first, count))

    def hold(self, info: "AnonInodeInfo", first: int, count: int, by: int) -> None:
        """``by`` more READs of a range wait, so the hand has to pass it over."""
        for chunk, _ in list(self._parts(info, first, count)):
            chunk.held_back += by
            self._settle(chunk)

    # -- unloading -------------------------------------------------------------------------

    @property
    def at_hand(self) -> "AnonInodeInfo | None":
        """Whose pages the hand comes to next."""
        for chunk in self._queue:
            if not self._is_busy(chunk) and chunk.info not in self.alone:
                return chunk.info
        return None

    @staticmethod
    def _is_busy(chunk: _Chunk) -> bool:
        return bool(chunk.unloading or chunk.held_back)

    def begin(self, wanted: int, info: "AnonInodeInfo | None" = None) -> Unload | None:
        """At least ``wanted`` cold pages of one inode where it has as many, or None.

        With ``info``, which was `at_hand` and may be ``alone`` now, of that inode and no other.

        Chunks are taken whole, but for their active pages, which are not passed over again.
        """
        unload: Unload | None = None
        looks = 2 * len(self._queue)
        while self._queue and looks:
            looks -= 1
            chunk = next(iter(self._queue))
            others = chunk.info is not info and chunk.info in self.alone
            busy = others or self._is_busy(chunk)
            if info is not None and chunk.info is not info and not busy:
                break
            if unload is not None and (unload.pages >= wanted or chunk.info is not unload.info):
                break
            del self._queue[chunk]
            victims = 0
            if not busy and (info is None or chunk.info is info):
                victims = chunk.loaded & ~chunk.active
                chunk.active = 0
            self.scanned += chunk.loaded.bit_count()
            if chunk.loaded != victims:
                self._queue[chunk] = None
            if victims:
                unload = unload or Unload(chunk.info)
                _take(unload, chunk, victims)
        return unload

    def upcoming(self, unload: Unload) -> list[tuple[int, int]]:
        """Runs of about as many pages as those of ``unload`` that the hand comes to next.

        Only of the same inode: it is a hint to begin writing them back.
        """
        runs, pages = [], 0
        for chunk in self._queue:
            if pages >= unload.pages or chunk.info is not unload.info:
                break
            runs.append((chunk.index << LEAF_SHIFT, ENTRIES_PER_LEAF))
            pages += chunk.loaded.bit_count()
        return runs

    def begin_range(self, info: "AnonInodeInfo", first: int, count: int) -> Unload:
        """``count`` pages from ``first``, loaded or not, cold or not.

        No unload of ``info`` is under way.
        """
        unload = Unload(info)
        self._ranged[info] = first, count
        for chunk, mask in self._known(info, first, count):
            if victims := chunk.loaded & mask:
                _take(unload, chunk, victims)
        unload.runs = [(first, count)]
        return unload

    def end(self, unload: Unload) -> int:
        """The pages of ``unload`` were dropped, but for those loaded since.

        Returns how many of those that went are holes: nobody can write to them any more.
        """
        self._ranged.pop(unload.info, None)
        holes = 0
        for chunk in unload.chunks:
            gone = chunk.unloading & ~chunk.reloaded & chunk.loaded
            chunk.unloading = 0
            chunk.loaded &= ~gone
            chunk.active &= ~gone
            chunk.ghosts = gone
            self.pages -= gone.bit_count()
            self.unloaded += gone.bit_count()
            holes += _holes(unload.info, chunk.index, gone)
            self._settle(chunk)
        return holes

    def abandon(self, unload: Unload) -> None:
        """In place of `end` where nothing was dropped: the pages of ``unload`` are there still."""
        self._ranged.pop(unload.info, None)
        for chunk in unload.chunks:
            chunk.unloading = 0
            self._settle(chunk)

    def drop(self, info: "AnonInodeInfo", first: int = 0) -> None:
        """The pages of ``info`` from ``first`` on are gone, with the pages themselves."""
        chunks = self._chunks.get(info, {})
        for index in [index for index in chunks if index >= first >> LEAF_SHIFT]:
            chunk = chunks[index]
            low = max(first - (index << LEAF_SHIFT), 0)
            gone = chunk.loaded & _ALL & -(1 << low)
            self.pages -= gone.bit_count()
            chunk.loaded &= ~gone
            chunk.active &= ~gone
            chunk.ghosts &= (1 << low) - 1
            self._settle(chunk)

    # -- checking --------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Recount the pages and look at the queue."""
        chunks = [chunk for found in self._chunks.values() for chunk in found.values()]
        require(sum(c.loaded.bit_count() for c in chunks) == self.pages, "loaded pages miscounted")
        require(self._queue.keys() <= set(chunks), "a chunk is queued that nobody knows")
        for chunk in chunks:
            require(not chunk.active & ~chunk.loaded, "an active page is not loaded")
            require(not chunk.ghosts & chunk.loaded, "a ghost is loaded")
            queued = chunk in self._queue
            stuck = chunk.loaded and not (queued or chunk.unloading or chunk.info.locked)
            require(not stuck, "the hand will never come to a loaded page")
            require(not (queued and chunk.info.locked), "the hand will come to a locked page")


def _take(unload: Unload, chunk: _Chunk, victims: int) -> None:
    """Add ``victims`` of ``chunk``, which no unload has, to ``unload``."""
    kept = chunk.loaded & ~victims
    chunk.unloading, chunk.reloaded = victims, 0
    unload.chunks.append(chunk)
    unload.pages += victims.bit_count()
    base = chunk.index << LEAF_SHIFT
    # What is not loaded costs nothing to drop, so only what is kept breaks a run.
    for first, count in _runs(_ALL & ~kept):
        if unload.runs and sum(unload.runs[-1]) == base + first:
            first, count = unload.runs[-1][0] - base, unload.runs[-1][1] + count  # noqa: PLW2901
            unload.runs.pop()
        unload.runs.append((base + first, count))


def _runs(mask: int) -> list[tuple[int, int]]:
    """The runs of ones in ``mask``: (first, count)."""
    runs = []
    at = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        ones = (~mask & (mask + 1)).bit_length() - 1
        mask >>= ones
        runs.append((at + skip, ones))
        at += skip + ones
    return runs


def _as_array(mask: int) -> npt.NDArray[np.bool_]:
    raw = np.frombuffer(mask.to_bytes(ENTRIES_PER_LEAF // 8, "little"), np.uint8)
    return np.unpackbits(raw, bitorder="little").view(np.bool_)


def _holes(info: "AnonInodeInfo", index: int, mask: int) -> int:
    """How many pages of ``mask`` do not exist."""
    if index not in info.leaves:
        return mask.bit_count()
    return int(np.count_nonzero(_as_array(mask) & (_entries(info, index << LEAF_SHIFT) == 0)))


def _entries(info: "AnonInodeInfo", first: int) -> Entries:
    return info.entries(first, ENTRIES_PER_LEAF)
