"""A small process with private memory that forks: ``private_forker.py MOUNT MIB``.

MOUNT is of the anonfs to have it in, or ``-`` for the kernel's own anonymous memory. It writes to
every page and says ``ready``. For each line that it reads it forks once, and says three numbers:
the seconds that fork(2) took the parent, those that the child then took to read the first word of
every page, and the median of those for the child's first store to a page.
"""

import mmap
import os
import struct
import sys
from statistics import median
from time import perf_counter

from anonfs.client import private
from anonfs.units import PAGE_SIZE
from pages import MIB, expect, first_words, random_block, stamp

__all__: list[str] = []

_STORES = 200
_TIMES = struct.Struct("=dd")


def _main() -> None:
    mount, size = sys.argv[1], int(sys.argv[2]) * MIB
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE) if mount == "-" else private(size, mount)
    block = random_block(MIB)
    for offset in range(0, size, MIB):
        stamp(block, offset // PAGE_SIZE)
        memory[offset : offset + MIB] = block.tobytes()
    print("ready", flush=True)  # noqa: T201
    for _ in sys.stdin:
        print(*_fork(memory), flush=True)  # noqa: T201


def _fork(memory: mmap.mmap) -> tuple[float, float, float]:
    theirs, ours = os.pipe()
    begin = perf_counter()
    pid = os.fork()
    if pid == 0:
        os.write(ours, _TIMES.pack(*_look_and_store(memory)))
        os._exit(0)
    seconds = perf_counter() - begin
    os.close(ours)
    looked, stored = _TIMES.unpack(os.read(theirs, _TIMES.size))
    os.close(theirs)
    os.waitpid(pid, 0)
    return seconds, looked, stored


def _look_and_store(memory: mmap.mmap) -> tuple[float, float]:
    words = first_words(memory)
    begin = perf_counter()
    found = int(words.sum())
    looked = perf_counter() - begin
    expect(found, words.size * (words.size + 1) // 2, "first words in a child")
    seconds = []
    for number in range(_STORES):
        page = number * 7919 % words.size  # far apart
        begin = perf_counter()
        words[page] = 0
        seconds.append(perf_counter() - begin)
    return looked, median(seconds)


_main()
