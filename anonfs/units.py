"""The units that every floor counts in.

Sizes and offsets are bytes unless a name says pages. Ino, PageIndex, Frame and Slot are plain
integers at run time; the type checker keeps them apart. Number 0 means none for Ino, Frame and
Slot.
"""

import re
from typing import NewType

__all__ = [
    "MAX_FILE_SIZE",
    "NUMBERS",
    "PAGE_SHIFT",
    "PAGE_SIZE",
    "Frame",
    "Ino",
    "PageIndex",
    "Slot",
    "format_size",
    "pages_for",
    "parse_size",
]

Ino = NewType("Ino", int)
PageIndex = NewType("PageIndex", int)
Frame = NewType("Frame", int)
Slot = NewType("Slot", int)

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT

MAX_FILE_SIZE = 1 << 50
"""The largest size of a file, in bytes; beyond it is EFBIG. Holes cost nothing below it."""

NUMBERS = 1 << 29
"""Frames and slots have numbers below it: that many fit into a page entry. 2 TiB of each."""

_SUFFIXES = "KMGT"
_SIZE = re.compile(rf"(\d+(?:\.\d+)?)\s*([{_SUFFIXES}]?)(?:i?B)?", re.IGNORECASE)


def pages_for(size: int) -> int:
    """The number of pages that ``size`` bytes need."""
    return (size + PAGE_SIZE - 1) >> PAGE_SHIFT


def parse_size(text: str) -> int:
    """The bytes that a size such as ``256M``, ``1.5G`` or ``4096`` names (powers of 1024).

    Raises:
        ValueError: with one line that says what a size looks like.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size: write a number and K, M, G or T, as in 256M")
    number, suffix = match.groups()
    exponent = 1 + _SUFFIXES.index(suffix.upper()) if suffix else 0
    return int(float(number) * 1024**exponent) if "." in number else int(number) * 1024**exponent


def format_size(size: int) -> str:
    """``size`` bytes for a person: ``4 KiB``, ``1.5 GiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f}".rstrip("0").rstrip(".") + f" {unit}"
