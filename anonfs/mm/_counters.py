"""Counters: what the engine has done so far, for whoever looks at it."""

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Pages and evictions since the engine was made; they only ever grow.

    swapped_out: pages written to swap, of which the only copy is there now
    swapped_in:  pages read from swap, to answer a READ or to be written in part
    zero_pages:  pages found to be zeros, and dropped instead of written
    evictions:   evictions that ended well, in full or in part
    """

    swapped_out: int = 0
    swapped_in: int = 0
    zero_pages: int = 0
    evictions: int = 0
