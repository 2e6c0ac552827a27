"""A small process that forks many, which map one file and stay: ``crowd.py FD COUNT MAPPERS``.

The first MAPPERS of them map it, the others are only there.
Says in one line how many seconds passed until all had it mapped. They end with their parent, and
it ends with its standard input: each child waits for the end of a pipe that only the parent holds
open, and would be killed by the kernel besides.
"""

import mmap
import os
import signal
import sys
from time import perf_counter
from typing import NoReturn

from syscalls import die_with_parent

__all__: list[str] = []

_PAGE_SIZE = 4096  # numpy and anonfs stay out of what is forked


def _main() -> None:
    fd, count, mappers = map(int, sys.argv[1:])
    gate, end_of_gate = os.pipe()
    counted, count_me = os.pipe()
    parent, begin = os.getpid(), perf_counter()
    for number in range(count):
        if os.fork() == 0:
            os.close(end_of_gate)
            _member(parent, fd if number < mappers else -1, number, count_me, gate)
    os.close(count_me)
    here = 0
    while here < count and (said := os.read(counted, count)):
        here += len(said)
    print(perf_counter() - begin if here == count else f"only {here} came", flush=True)  # noqa: T201
    sys.stdin.read()
    os.close(end_of_gate)
    for _ in range(count):
        os.wait()


def _member(parent: int, fd: int, number: int, count_me: int, gate: int) -> NoReturn:
    """Map the file, if there is one, leave our number in our page, stay."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() == parent:
        if fd >= 0:
            area = mmap.mmap(fd, 0)
            at = number * _PAGE_SIZE
            area[at : at + 8] = (number + 1).to_bytes(8, sys.byteorder)
        os.write(count_me, b".")
        os.close(count_me)
        os.read(gate, 1)
    os._exit(0)


if __name__ == "__main__":
    _main()
