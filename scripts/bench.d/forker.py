"""A small process with many areas that forks: ``forker.py FD AREAS HOW``, told what to do in lines.

It maps the first page of the file AREAS times, which the kernel never merges, attaches them where
HOW is ``attached``, and says ``ready``.
``time N`` has it fork N children that end at once: it says the median of the seconds that fork(2)
took. ``keep N`` has it fork N that stay, until its standard input ends: it says ``kept``. They hold
no end of a pipe but that of the gate, and the kernel kills them with it besides.
"""

import os
import signal
import sys
from statistics import median
from time import perf_counter

from anonfs.client import attach
from pages import expect
from syscalls import die_with_parent, map_first_page

__all__: list[str] = []


def _main() -> None:
    fd, count = map(int, sys.argv[1:3])
    for _ in range(count):
        map_first_page(fd)
    if sys.argv[3] == "attached":
        expect(attach(fd), True, "attached")
    os.close(fd)
    gate, end_of_gate = os.pipe()
    _say("ready")
    kept = 0
    for line in sys.stdin:
        order, number = line.split()
        if order == "time":
            _say(str(median(_fork() for _ in range(int(number)))))
        else:
            for _ in range(int(number)):
                _keep(gate, end_of_gate)
            kept += int(number)
            _say("kept")
    os.close(end_of_gate)
    for _ in range(kept):
        os.wait()


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _fork() -> float:
    """Seconds that a fork takes, in the parent."""
    begin = perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    seconds = perf_counter() - begin
    os.waitpid(pid, 0)
    return seconds


def _keep(gate: int, end_of_gate: int) -> None:
    parent = os.getpid()
    if os.fork() == 0:
        os.close(end_of_gate)
        die_with_parent(signal.SIGKILL)
        if os.getppid() == parent:
            os.read(gate, 1)
        os._exit(0)


if __name__ == "__main__":
    _main()
