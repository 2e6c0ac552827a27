"""A swap area: the slots of one store, who reads them, and which are good.

A slot that is freed while it is being read is *doomed*: a reader on a thread must never be handed
the bytes of the slot's next owner, so it can be allocated again only when its readers have ended::

    slot      1     2     3     4     5
    byte      1     1     0     1     0
    pinned          x           x             slots 2 and 4 are being read
    doomed          x                         and slot 2 was freed meanwhile

A slot that several page entries name is shared, and freed when the last of them gives it up.

All of it is called with the owner's lock held, but ``read_into`` and ``write_from``: they may be
called by any thread at any time, for slots that the caller has pinned or allocated.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from anonfs.errors import require
from anonfs.swap._async_reads import AsyncReads
from anonfs.swap._health import Health
from anonfs.swap._pins import Pins
from anonfs.swap._shares import Shares
from anonfs.swap._slot_map import SlotMap
from anonfs.swap._store import SwapStore
from anonfs.swap._transfer import Transfer, read_slots, write_slots
from anonfs.units import NUMBERS, PAGE_SHIFT

__all__ = ["SwapArea"]

Slots = npt.NDArray[np.int64]


class SwapArea:
    """The slots of one store, with counts of what went wrong: of slots, since it was made.

    ``now`` is a monotonic clock in seconds.
    """

    def __init__(self, store: SwapStore, now: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._map = SlotMap(min(store.size >> PAGE_SHIFT, NUMBERS - 1))
        self._pins = Pins()
        self.shares = Shares(self._map.total)
        self._doomed: set[int] = set()
        self._health = Health(now)
        self.write_errors = 0
        self.read_errors = 0
        self.checksum_errors = 0

    @property
    def slots(self) -> int:
        """The slots that can hold a page: all but the retired."""
        return self._map.total - self._map.retired

    @property
    def used(self) -> int:
        """The slots that hold a page, or are on their way to or from one."""
        return self._map.used

    @property
    def retired(self) -> int:
        """The slots that could not be written and are never allocated again."""
        return self._map.retired

    @property
    def failing(self) -> bool:
        """Whether nothing could be written of late; see `Health`."""
        return self._health.failing

    @property
    def free(self) -> int:
        """How many slots can be allocated; none while the area is failing."""
        return 0 if self.failing else self._map.free

    def allocate(self, wanted: int) -> Slots:
        """Up to ``wanted`` free slots, neighbours where there are as many.

        Fewer, or none, when the area has no more or is failing: that is for the caller to judge.
        """
        return self._map.take(self._health.allowance(min(wanted, self._map.free)))

    def release(self, slots: Slots) -> None:
        """One user less of ``slots`` (no number twice): those that have none now are free.

        Those being read become free when their last reader unpins them.
        """
        if not slots.size:
            return
        if self.shares.total:
            slots = slots[self.shares.drop(slots)]
        require(self._map.are_used(slots), "slot freed twice")
        being_read = self._pins.pinned(slots)
        doomed = slots[being_read].tolist()
        require(self._doomed.isdisjoint(doomed), "slot freed twice")
        self._doomed.update(doomed)
        self._map.put_back(slots[~being_read])

    def settle(self, slots: Slots, transfer: Transfer) -> None:
        """Tell what became of writing to ``slots``; those that failed are not the caller's now."""
        failed = slots[transfer.failed]
        self.write_errors += failed.size
        if transfer.done.any():
            self._health.note_success()
            self._map.retire(failed)
        elif self.failing:
            self._map.put_back(failed)
        elif failed.size:
            self._map.retire(failed)
            self._health.suspect(failed)
            if self._health.doubted_enough(self._map.free):
                self._map.restore(self._health.fail())

    def pin(self, slots: Slots) -> None:
        """Keep the bytes of ``slots`` (no number twice) as they are until `unpin`."""
        self._pins.add(slots)

    def unpin(self, slots: Slots) -> None:
        """End a `pin`."""
        ended = self._pins.remove(slots) & self._doomed
        self._doomed -= ended
        self._map.put_back(np.array(sorted(ended), np.int64))

    def pin_one(self, slot: int) -> None:
        """`pin` a single slot, in a fifth of the time."""
        self._pins.add_one(slot)

    def unpin_one(self, slot: int) -> None:
        """End a `pin_one`."""
        if self._pins.remove_one(slot) and slot in self._doomed:
            self._doomed.discard(slot)
            self._map.put_back(np.array([slot], np.int64))

    def read_page(self, slot: int, page: memoryview) -> None:
        """Read one slot, in a third of the time. Raises OSError."""
        self._store.read_into((slot - 1) << PAGE_SHIFT, page)

    def async_reads(self, most: int) -> AsyncReads | None:
        """What reads up to ``most`` slots side by side for one thread, where the store can."""
        return self._store.async_reads(most)

    @staticmethod
    def ask_for(slot: int, reads: AsyncReads) -> int | None:
        """`read_page` without waiting: the number that ``reads`` gives it, or None."""
        return reads.ask((slot - 1) << PAGE_SHIFT)

    def read_into(self, slots: Slots, pages: memoryview, rows: Slots) -> Transfer:
        """Read each slot into the page of ``pages`` (bytes) that ``rows`` names."""
        return read_slots(self._store, slots, pages, rows)

    def write_from(self, slots: Slots, pages: memoryview, rows: Slots) -> Transfer:
        """Write to each slot the page of ``pages`` (bytes) that ``rows`` names."""
        return write_slots(self._store, slots, pages, rows)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def check_invariants(self) -> None:
        """Recount what is cached."""
        self._map.check_invariants()
        self._pins.check_invariants()
        doomed = np.array(sorted(self._doomed), np.int64)
        require(self._map.are_used(doomed), "a free slot is doomed")
        require(self._pins.pinned(doomed).all(), "a doomed slot has no reader")

    def in_use(self) -> Slots:
        """The slots that page entries must account for, ascending: in use and not doomed."""
        used = self._map.in_use()
        return used[~np.isin(used, sorted(self._doomed))] if self._doomed else used
