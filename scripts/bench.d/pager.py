"""The group ``pager``: page faults that a daemon answers from memory, beside a daemon in C."""

import mmap

from mapped import PageIn, RandomFaults
from measure import Better, Group, Metric
from peers import PASSTHROUGH

__all__ = ["GROUP"]

_PAGE_IN = Metric("sequential page-in", "MiB/s", Better.HIGHER, target=2.5)
_RANDOM = Metric("random fault, MADV_RANDOM", "µs/fault", target=1.5)

GROUP = Group(
    "page faults answered from memory by a daemon",
    PASSTHROUGH,
    (PageIn(_PAGE_IN), RandomFaults(_RANDOM, mmap.MADV_RANDOM, 8192)),
    runs=9,
    note="""\
Where the kernel runs client and daemon makes most of the spread. passthrough_ll, on a tmpfs, runs
as libfuse has it with cache=always: it reads ahead the kernel's 128 KiB, anonfs what it sets.""",
)
