"""Page entries: one 64-bit word says where a page is.

The seed wants a page pointer or a swap entry or nothing, in one word with a tag::

    63 62  61 60                         32 31                          0
    ┌───┬─────┬────────────────────────────┬─────────────────────────────┐
    │ 0 │ tag │  frame or slot             │  checksum                   │
    └───┴─────┴────────────────────────────┴─────────────────────────────┘

    NONE      tag 0, the whole word 0: never written, or punched; reads as zeros, or as the front
              store of the inode where that shows
    IN_CORE   tag 1: the frame that holds the page; no checksum
    ON_SWAP   tag 2: the slot that holds the page, and what its bytes add up to

A number has 29 bits: 2 TiB of frames, and 2 TiB of swap in all, since the slots of all areas share
one number space. The checksum lies in the entry and not beside the slot, so a page whose write
went astray, or was never made, is found out as surely as one whose bytes were damaged.

Transitions::

    NONE ──write──▶ IN_CORE ──swap-out──▶ ON_SWAP ──write (loaded first if partial)──▶ IN_CORE
    IN_CORE ──swap-out of zeros, truncate, punch──▶ NONE        ON_SWAP ──truncate, punch──▶ NONE

A READ changes no entry: the kernel's page cache holds what it was given. Bit 63 stays clear so
that the words fit a signed numpy type and never turn into floats in arithmetic.
"""

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from anonfs.units import NUMBERS, Frame

__all__ = [
    "Entries",
    "PageState",
    "first_of_run",
    "in_core",
    "numbers",
    "on_swap",
    "slot_and_sum",
    "states",
    "sums",
]

Entries = npt.NDArray[np.int64]

_TAG_SHIFT = 61
_NUMBER_SHIFT = 32
_CHECKSUM_MASK = (1 << _NUMBER_SHIFT) - 1


class PageState(IntEnum):
    """The tag of an entry; FRONT is none, but what a page that is NONE may be, see `Front`."""

    NONE = 0
    IN_CORE = 1
    ON_SWAP = 2
    FRONT = 3

    @property
    def label(self) -> str:
        """The state as the inspection attributes name it."""
        return self.name.lower()


_ON_SWAP = int(PageState.ON_SWAP)


def in_core(frames: Entries) -> Entries:
    """Entries for pages in ``frames``."""
    return (frames << _NUMBER_SHIFT) | (PageState.IN_CORE << _TAG_SHIFT)


def on_swap(slots: Entries, sums: Entries) -> Entries:
    """Entries for pages in ``slots`` with checksums ``sums``."""
    return (slots << _NUMBER_SHIFT) | sums | (PageState.ON_SWAP << _TAG_SHIFT)


def states(entries: Entries) -> Entries:
    """The `PageState` of each entry."""
    return entries >> _TAG_SHIFT


def numbers(entries: Entries) -> Entries:
    """The frame or slot of each entry; 0 for NONE, which is the frame of zeros."""
    return (entries >> _NUMBER_SHIFT) & (NUMBERS - 1)


def sums(entries: Entries) -> Entries:
    """The checksum of each entry."""
    return entries & _CHECKSUM_MASK


def slot_and_sum(entry: int) -> tuple[int, int]:
    """The slot and the checksum of one entry that is ON_SWAP; (0, 0) for any other."""
    if entry >> _TAG_SHIFT != _ON_SWAP:
        return 0, 0
    return (entry >> _NUMBER_SHIFT) & (NUMBERS - 1), entry & _CHECKSUM_MASK


def first_of_run(entries: Entries) -> Frame:
    """The first frame, where all ``entries`` are of pages in neighbouring frames; else 0.

    A fault and a small write mostly meet such a run, and take a third of the time for knowing it.
    """
    first, last, count = int(entries[0]), int(entries[-1]), entries.size
    if first >> _TAG_SHIFT != PageState.IN_CORE or last - first != (count - 1) << _NUMBER_SHIFT:
        return Frame(0)
    if count > 2 and not (entries[1:] - entries[:-1] == 1 << _NUMBER_SHIFT).all():
        return Frame(0)
    return Frame((first >> _NUMBER_SHIFT) & (NUMBERS - 1))
