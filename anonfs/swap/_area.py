"""A swap area: a map of slots over a store, after the kernel's swap_map.

Slots are numbered from 1; number 0 means none, so that a zero page entry can never name a slot::

    slot      1    2    3    4    5
    in use    1    1    0    1    0
    readers   0    2    0    0    0      slot 2 is being read
    doomed    0    1    0    0    0      and was freed meanwhile: reusable when its readers end

Freeing a slot that is being read only dooms it: a reader on a thread must never be handed the
bytes of the slot's next owner. The maps belong to one thread (the event loop's); only ``read_into``
and ``write_from`` may be called from others, for slots that the caller has pinned or allocated.
"""

import numpy as np
import numpy.typing as npt

from anonfs.errors import require
from anonfs.swap._store import SwapStore
from anonfs.units import PAGE_SHIFT

__all__ = ["SwapArea"]

Slots = npt.NDArray[np.int64]

_WINDOW = 1 << 16
"""How many slots are looked at in one step of the search for free ones."""


class SwapArea:
    """The slots of one store."""

    def __init__(self, store: SwapStore) -> None:
        self._store = store
        self.slots = store.size >> PAGE_SHIFT
        self._in_use = np.zeros(self.slots + 1, np.bool_)
        self._in_use[0] = True
        self._readers = np.zeros(self.slots + 1, np.uint16)
        self._doomed = np.zeros(self.slots + 1, np.bool_)
        self._hand = 1
        self.used = 0

    @property
    def free(self) -> int:
        """How many slots can be allocated."""
        return self.slots - self.used

    def allocate(self, wanted: int) -> Slots:
        """Up to ``wanted`` free slots in the order of the disk, from where the last search ended.

        Fewer, or none, when the area has no more: that is for the caller to judge.
        """
        found: list[Slots] = []
        missing, looked = min(wanted, self.free), 0
        while missing and looked <= self.slots:
            window = self._in_use[self._hand : self._hand + _WINDOW]
            picked = np.flatnonzero(~window)[:missing] + self._hand
            if picked.size:
                self._in_use[picked] = True
                found.append(picked)
                missing -= picked.size
            step = int(picked[-1]) + 1 - self._hand if picked.size and not missing else window.size
            looked += step
            self._hand += step
            if self._hand > self.slots:
                self._hand = 1
        slots = np.concatenate(found) if found else np.empty(0, np.int64)
        self.used += slots.size
        return slots

    def release(self, slots: Slots) -> None:
        """Free ``slots``; those being read become free when their last reader unpins them."""
        if not slots.size:
            return
        require(self._in_use[slots].all() and not self._doomed[slots].any(), "slot freed twice")
        being_read = self._readers[slots] > 0
        self._doomed[slots[being_read]] = True
        self._put_back(slots[~being_read])

    def pin(self, slots: Slots) -> None:
        """Keep the bytes of ``slots`` (no number twice) as they are until `unpin`."""
        self._readers[slots] += 1

    def unpin(self, slots: Slots) -> None:
        """End a `pin`."""
        require((self._readers[slots] > 0).all(), "slot unpinned that was not pinned")
        self._readers[slots] -= 1
        self._put_back(slots[self._doomed[slots] & (self._readers[slots] == 0)])

    def _put_back(self, slots: Slots) -> None:
        self._doomed[slots] = False
        self._in_use[slots] = False
        self.used -= slots.size

    def read_into(self, slots: Slots, pages: memoryview, rows: Slots | None = None) -> None:
        """Read each slot into the page of ``pages`` (bytes) that ``rows`` names, or the next.

        One request for each run of slots and rows. Raises OSError.
        """
        for slot, page, count in _runs(slots, rows):
            piece = pages[page << PAGE_SHIFT : (page + count) << PAGE_SHIFT]
            self._store.read_into((slot - 1) << PAGE_SHIFT, piece)

    def write_from(self, slots: Slots, pages: memoryview) -> None:
        """Write ``pages`` (bytes, a page a slot) to ``slots``, one request for each run of slots.

        Raises OSError.
        """
        for slot, page, count in _runs(slots):
            piece = pages[page << PAGE_SHIFT : (page + count) << PAGE_SHIFT]
            self._store.write_from((slot - 1) << PAGE_SHIFT, piece)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def check_invariants(self) -> None:
        """Recount what is cached."""
        require(self.used == int(self._in_use[1:].sum()), "slots used differ from the slot map")
        require(not (self._doomed & ~self._in_use).any(), "a free slot is doomed")
        require(not (self._doomed & (self._readers == 0)).any(), "a doomed slot has no reader")

    def in_use(self) -> Slots:
        """The slots that page entries must account for, ascending: in use and not doomed."""
        return np.flatnonzero(self._in_use & ~self._doomed)[1:]


def _runs(slots: Slots, rows: Slots | None = None) -> list[tuple[int, int, int]]:
    """(slot, row, count) wherever both ``slots`` and ``rows`` (or 0, 1, ...) count up by one."""
    if not slots.size:
        return []
    if rows is None:
        rows = np.arange(slots.size)
    breaks = np.flatnonzero((np.diff(slots) != 1) | (np.diff(rows) != 1)) + 1
    starts = np.concatenate(([0], breaks))
    counts = np.diff(np.concatenate((starts, [slots.size])))
    columns = slots[starts].tolist(), rows[starts].tolist(), counts.tolist()
    return list(zip(*columns, strict=True))
