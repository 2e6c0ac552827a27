"""The names of what `tests.judge.planted` can plant; this module needs no daemon installed."""

__all__ = ["DELAYS", "FAULTS", "RACES"]

FAULTS = (
    "tail-kept-at-truncate",
    "fresh-frame-not-zeroed",
    "hole-not-zeros",
    "o-trunc-ignored",
    "data-dropped-at-unlink",
    "data-dropped-at-rename-over",
    "tail-of-write-lost",
    "two-slots-swapped",
    "rest-of-swapped-page-lost",
)
"""Faults that one operation at a time shows."""

RACES = ("rewritten-page-evicted",)
"""Faults that show only where something happens during swap I/O."""

DELAYS = ("slow-swap",)
"""No faults: what a daemon must bear."""
