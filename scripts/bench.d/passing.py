"""One of two processes that pass data through a ring buffer: ``passing.py ROLE KIND NUMBER COUNT``.

ROLE is ``send`` or ``receive``, COUNT how many slots they pass. The buffer is a segment: the
descriptor NUMBER where KIND is ``file``, the System V segment of that id where it is ``sysv``::

    word 0          the bytes that were sent up to now
    word 512        the bytes that were received
    word 1024 ...   slots, which are used in turn

Each waits for the other by looking again and again, so what is measured is memory, and that is
loaded before. The receiver checks all words. Both say in one line how many seconds it took to pass
`SLICE` slots, the median over all such slices: the machine is shared.
"""

import mmap
import os
import sys
from statistics import median
from time import perf_counter

import numpy as np

import kernel_sysv
from pages import expect

__all__ = ["BUFFER", "SLICE", "SLOT"]

SLOT = 32 << 10
"""Bytes of a slot."""

SLICE = 512
"""Slots of which the time is taken."""

_SLOT_WORDS = SLOT // 8
_SLOTS = 32
_SENT, _RECEIVED, _FIRST = 0, 512, 1024
BUFFER = 8 * _FIRST + _SLOTS * SLOT
"""Bytes of the segment."""


def _main() -> None:
    role, kind, number, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    is_file = kind == "file"
    memory = mmap.mmap(number, BUFFER) if is_file else kernel_sysv.attach(number, BUFFER)
    words = np.frombuffer(memoryview(memory), np.int64)
    slots = words[_FIRST:].reshape(_SLOTS, _SLOT_WORDS)
    words += 0  # all of it is loaded now, and may be stored to
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    data = np.arange(_SLOT_WORDS)
    times = [perf_counter()]
    for turn in range(count):
        slot = slots[turn % _SLOTS]
        if role == "send":
            while turn - words[_RECEIVED] >= _SLOTS:
                os.sched_yield()
            data[0] = turn
            slot[:] = data
            words[_SENT] = turn + 1
        else:
            while words[_SENT] <= turn:
                os.sched_yield()
            total = int(slot.sum())
            words[_RECEIVED] = turn + 1
            expect(total, turn + _SLOT_WORDS * (_SLOT_WORDS - 1) // 2, "words of a slot")
        if (turn + 1) % SLICE == 0:
            times.append(perf_counter())
    print(median(np.diff(times)), flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
