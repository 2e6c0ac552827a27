"""The slot map: one byte a slot, after the kernel's ``swap_map``, with a count for each cluster.

Slots are numbered from 1; number 0 means none, so that a page entry that is zero can never name a
slot. A byte says whether the slot is in use, or that there is no slot::

    slot       0    1    2    3    4  …  511 │ 512  513  …
    byte      255   1    1    0   255 …   0  │  0    0   …       slot 4 was retired
    free in             507                  │     512           each cluster of 512

Slots are given out as runs of neighbours where there are such, for what leaves core together mostly
comes back together: at the hand, else in the emptiest cluster that is near; and scattered only
where there are none. A search costs a few vector operations over the counts of near clusters, and
one cluster's bytes, however large the area is.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from anonfs.errors import require

__all__ = ["SlotMap"]

Slots = npt.NDArray[np.int64]

_CLUSTER_SHIFT = 9
_CLUSTER = 1 << _CLUSTER_SHIFT
_WINDOW = 4096
"""Clusters whose counts are looked at in one step: 8 GiB of swap."""

_NO_SLOT = 255
_ONE = np.uint16(1)  # of the type of the counts, or numpy converts one by one


class SlotMap:
    """Which of ``total`` slots are ``used``, ``retired`` and free."""

    def __init__(self, total: int) -> None:
        clusters = (total >> _CLUSTER_SHIFT) + 1
        self.total = total
        self.used = 0
        self.retired = 0
        self._bytes = np.zeros((clusters, _CLUSTER), np.uint8)
        self._all = self._bytes.reshape(-1)
        self._free_in = np.full(clusters, _CLUSTER, np.uint16)
        self._hand = 1
        nowhere = np.array([0, *range(total + 1, self._all.size)])
        self._all[nowhere] = _NO_SLOT
        np.subtract.at(self._free_in, nowhere >> _CLUSTER_SHIFT, _ONE)

    @property
    def free(self) -> int:
        """How many slots can be taken."""
        return self.total - self.used - self.retired

    def take(self, wanted: int) -> Slots:
        """``wanted`` free slots, or all that are free; neighbours are ascending."""
        wanted = min(wanted, self.free)
        if not wanted:
            return np.empty(0, np.int64)
        slots = self._run(wanted)
        if slots is None:
            slots = self._scattered(wanted)
        self._all[slots] = 1
        np.subtract.at(self._free_in, slots >> _CLUSTER_SHIFT, _ONE)
        self.used += slots.size
        self._hand = int(slots[-1]) + 1
        if self._hand > self.total:
            self._hand = 1
        return slots

    def _run(self, wanted: int) -> Slots | None:
        """``wanted`` neighbours, if they are near."""
        hand, near = self._hand, self._hand >> _CLUSTER_SHIFT
        ahead = self._all[hand : hand + wanted]
        if ahead.size == wanted and not ahead.any():
            return np.arange(hand, hand + wanted)
        for start in (near, 0):
            best = start + int(self._free_in[start : start + _WINDOW].argmax())
            if self._free_in[best] >= wanted:
                return self._run_within(best, wanted)
        return None

    def _run_within(self, cluster: int, wanted: int) -> Slots | None:
        taken = np.flatnonzero(self._bytes[cluster])
        edges = np.concatenate(([-1], taken, [_CLUSTER]))
        wide = np.flatnonzero(np.diff(edges) > wanted)
        if not wide.size:
            return None
        first = (cluster << _CLUSTER_SHIFT) + int(edges[wide[0]]) + 1
        return np.arange(first, first + wanted)

    def _scattered(self, wanted: int) -> Slots:
        """``wanted`` free slots, of which there are as many, from the hand's cluster on."""
        found: list[Slots] = []
        for start, stop in self._windows():
            if not self._free_in[start:stop].max():
                continue
            clusters = np.flatnonzero(self._free_in[start:stop]) + start
            enough = np.searchsorted(np.cumsum(self._free_in[clusters]), wanted) + 1
            clusters = clusters[:enough]
            at = np.flatnonzero(self._bytes[clusters] == 0)[:wanted]
            found.append((clusters[at >> _CLUSTER_SHIFT] << _CLUSTER_SHIFT) + (at & (_CLUSTER - 1)))
            wanted -= at.size
            if not wanted:
                break
        return np.concatenate(found)

    def _windows(self) -> Iterator[tuple[int, int]]:
        """All clusters, by windows, from that of the hand on and round."""
        near = self._hand >> _CLUSTER_SHIFT
        for first, end in ((near, self._free_in.size), (0, near)):
            for start in range(first, end, _WINDOW):
                yield start, min(start + _WINDOW, end)

    def put_back(self, slots: Slots) -> None:
        """Used slots are free."""
        self._clear(slots)
        self.used -= slots.size

    def retire(self, slots: Slots) -> None:
        """Used slots are no slots any more."""
        self._all[slots] = _NO_SLOT
        self.used -= slots.size
        self.retired += slots.size

    def restore(self, slots: Slots) -> None:
        """Retired slots are free after all."""
        self._clear(slots)
        self.retired -= slots.size

    def _clear(self, slots: Slots) -> None:
        self._all[slots] = 0
        np.add.at(self._free_in, slots >> _CLUSTER_SHIFT, _ONE)

    def are_used(self, slots: Slots) -> bool:
        """Whether all of ``slots`` are in use."""
        found = self._all[slots]
        return bool(((found != 0) & (found != _NO_SLOT)).all())

    def in_use(self) -> Slots:
        """The slots in use, ascending."""
        return np.flatnonzero((self._all != 0) & (self._all != _NO_SLOT))

    def check_invariants(self) -> None:
        """Recount what is cached."""
        require(self.used == self.in_use().size, "slots used differ from the slot map")
        missing = int(np.count_nonzero(self._all == _NO_SLOT))
        require(self.retired == missing - (self._all.size - self.total), "slots retired miscounted")
        free = np.count_nonzero(self._bytes == 0, axis=1)
        require(np.array_equal(free, self._free_in), "free slots of a cluster miscounted")
