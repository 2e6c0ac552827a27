"""Many processes that are forked, get ready, and stay until their parent lets them go.

They end with their parent, and it ends with its standard input: each waits for the end of a pipe
that only the parent holds open, and would be killed by the kernel besides.
"""

import os
import signal
import sys
from collections.abc import Callable
from time import perf_counter

from syscalls import die_with_parent

__all__ = ["gather"]


def gather(count: int, get_ready: Callable[[int], object]) -> None:
    """Fork ``count`` processes that call ``get_ready`` with their number, and keep what it gives.

    Says in one line how many seconds passed until all had.
    """
    gate, end_of_gate = os.pipe()
    counted, count_me = os.pipe()
    parent, begin = os.getpid(), perf_counter()
    for number in range(count):
        if os.fork() == 0:
            os.close(end_of_gate)
            die_with_parent(signal.SIGKILL)
            if os.getppid() == parent:
                kept = get_ready(number)
                os.write(count_me, b".")
                os.close(count_me)
                os.read(gate, 1)
                del kept
            os._exit(0)
    os.close(count_me)
    here = 0
    while here < count and (said := os.read(counted, count)):
        here += len(said)
    print(perf_counter() - begin if here == count else f"only {here} came", flush=True)  # noqa: T201
    sys.stdin.read()
    os.close(end_of_gate)
    for _ in range(count):
        os.wait()
