"""Health: whether a failed write says something of the slot or of the whole disk.

Where other slots could be written, the slot is to blame, and is retired. Where none could, nobody
knows yet, and what was tried is kept away as *suspect*::

             some written                       some written
            ┌─────────────┐            the suspects are bad indeed
            ▼             │          ┌──────────────────────────────┐
        ┌───────┐  none written  ┌───┴─────┐  for the third time, ┌─┴───────┐
        │ sound ├───────────────▶│ doubted ├─────────────────────▶│ failing │
        └───────┘ suspects kept  └─────────┘  or no slot is left  └─────────┘
            ▲        away                     suspects come back       │
            └──────────────── some written ────────────────────────────┘

So a bad mebibyte costs a mebibyte, and a disk that is full or gone for an hour costs nothing. While
the area is failing it gives out one slot a second, to try whether it can be written again.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Health"]

Slots = npt.NDArray[np.int64]

_DOUBTS = 3
_PROBE_SECONDS = 1.0


class Health:
    """Judges an area by the outcome of its writes; ``now`` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.failing = False
        self._now = now
        self._suspects: list[Slots] = []
        self._probe_at = 0.0

    def allowance(self, wanted: int) -> int:
        """How many of ``wanted`` slots may be tried now."""
        if not self.failing or not wanted:
            return wanted
        if self._now() < self._probe_at:
            return 0
        self._probe_at = self._now() + _PROBE_SECONDS
        return 1

    def note_success(self) -> None:
        """Some slots were written: the area works, and who is still suspect is bad."""
        self.failing = False
        self._suspects.clear()

    def suspect(self, slots: Slots) -> None:
        """None could be written, of which these were tried, and were retired."""
        self._suspects.append(slots)

    def doubted_enough(self, free: int) -> bool:
        """Whether it is time to give up on the area, of which ``free`` slots are left."""
        return len(self._suspects) >= _DOUBTS or not free

    def fail(self) -> Slots:
        """The area is failing from now on; returns the suspects, who are innocent."""
        self.failing = True
        self._probe_at = self._now() + _PROBE_SECONDS
        innocent = np.concatenate(self._suspects)
        self._suspects.clear()
        return innocent
