"""A storm of forks: ``python -m tests.lifecycle.storm FILE BATCH...`` maps FILE, and forks.

The mapping is attached. Each batch is so many processes: children that stay, and a child of each
that ends at once. When all are born it says so on standard output, and kills those that are alive
when it is sent a line. It is a program of its own, for a fork of the test itself would take several
times as long.
"""

import os
import signal
import sys

from anonfs.client import attach
from anonfs.units import PAGE_SIZE
from tests.posix.children import fork
from tests.posix.memory import Mapping


def _batch(size: int) -> list[int]:
    """Those who stay, of ``size`` processes that were born."""
    reader, writer = os.pipe()
    pids = []
    for _ in range(size // 2):
        pid = fork()
        if pid == 0:
            if fork() == 0:
                os._exit(0)
            os.write(writer, b".")
            os.wait()
            signal.pause()
        pids.append(pid)
    born = 0
    while born < len(pids):
        born += len(os.read(reader, size))
    os.close(reader)
    os.close(writer)
    return pids


def _main() -> None:
    path, *batches = sys.argv[1:]
    fd = os.open(path, os.O_RDWR)
    mapping = Mapping(fd, PAGE_SIZE)
    assert attach(fd)
    for size in map(int, batches):
        pids = _batch(size)
        sys.stdout.write("alive\n")
        sys.stdout.flush()
        sys.stdin.readline()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    mapping.unmap()


if __name__ == "__main__":
    _main()
