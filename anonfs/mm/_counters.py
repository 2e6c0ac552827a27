"""Counters: what the engine has done so far, for whoever looks at it."""

from dataclasses import dataclass

__all__ = ["Counters"]


@dataclass(slots=True)
class Counters:
    """Pages, requests and evictions since the engine was made; they only ever grow.

    fault_requests, fault_in_core, fault_on_swap, fault_none: READs, and the pages handed out by
        them: from frames, from swap, and holes
    writeback_requests, writeback_pages: WRITEs, and the pages that they wrote to
    throttled: requests that had to wait for reclaim
    swapped_out: pages written to swap, of which the only copy is there now
    swapped_in:  pages read from swap, to answer a READ or to be written in part
    zero_pages:  pages found to be zeros, and dropped instead of written
    evictions:   evictions that ended well, in full or in part
    """

    fault_requests: int = 0
    fault_in_core: int = 0
    fault_on_swap: int = 0
    fault_none: int = 0
    writeback_requests: int = 0
    writeback_pages: int = 0
    throttled: int = 0
    swapped_out: int = 0
    swapped_in: int = 0
    zero_pages: int = 0
    evictions: int = 0
