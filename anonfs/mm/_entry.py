"""Page entries: one 64-bit word says where a page is.

The seed wants a page pointer or a swap entry or nothing, in one word with a tag::

    63 62 61 60 59      54 53                                         0
    ┌─────┬─────┬─────────┬───────────────────────────────────────────┐
    │  0  │ tag │  area   │  frame or slot                            │
    └─────┴─────┴─────────┴───────────────────────────────────────────┘

    NONE      tag 0, the whole word 0: never written, or punched; reads as zeros
    IN_CORE   tag 1: the frame that holds the page
    ON_SWAP   tag 2: the swap area and the slot that hold it

Transitions::

    NONE ──write──▶ IN_CORE ──swap-out──▶ ON_SWAP ──write (loaded first if partial)──▶ IN_CORE
    IN_CORE ──swap-out of zeros, truncate──▶ NONE        ON_SWAP ──truncate──▶ NONE

A READ changes no entry: the kernel's page cache holds what it was given. Bit 63 stays clear so
that the words fit a signed numpy type and never turn into floats in arithmetic.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from anonfs.units import Frame

__all__ = ["Entries", "PageState", "first_of_run", "in_core", "numbers", "on_swap", "states"]

Entries = npt.NDArray[np.int64]

_TAG_SHIFT = 60
_AREA_SHIFT = 54
_NUMBER_MASK = (1 << _AREA_SHIFT) - 1


class PageState(IntEnum):
    """The tag of an entry."""

    NONE = 0
    IN_CORE = 1
    ON_SWAP = 2

    @property
    def label(self) -> str:
        """The state as the inspection attributes name it."""
        return self.name.lower()


def in_core(frames: Entries) -> Entries:
    """Entries for pages in ``frames``."""
    return frames | (PageState.IN_CORE << _TAG_SHIFT)


def on_swap(slots: Entries, area: int = 0) -> Entries:
    """Entries for pages in ``slots`` of swap area ``area``."""
    return slots | (PageState.ON_SWAP << _TAG_SHIFT) | (area << _AREA_SHIFT)


def states(entries: Entries) -> Entries:
    """The `PageState` of each entry."""
    return entries >> _TAG_SHIFT


def numbers(entries: Entries) -> Entries:
    """The frame or slot of each entry; 0 for NONE, which is the frame of zeros."""
    return entries & _NUMBER_MASK


def first_of_run(entries: Entries) -> Frame:
    """The first frame, where all ``entries`` are of pages in neighbouring frames; else 0.

    A fault and a small write mostly meet such a run, and take a third of the time for knowing it.
    """
    first, count = int(entries[0]), entries.size
    if first >> _TAG_SHIFT != PageState.IN_CORE or int(entries[-1]) - first != count - 1:
        return Frame(0)
    if count > 2 and not (entries[1:] - entries[:-1] == 1).all():
        return Frame(0)
    return Frame(first & _NUMBER_MASK)
