"""A process with a child, both of which hold a segment until they are killed.

Run as ``python -m tests.shm.holder fork|spawn NAME``; prints the child's pid when both have stored.
"""

import multiprocessing
import signal
import sys
from multiprocessing.connection import Connection

from anonfs.shm import SharedMemory

__all__: list[str] = []


def hold(segment: SharedMemory, pipe: Connection) -> None:
    """In the child: store and stay."""
    segment.buf[1] = 2
    pipe.send("stored")
    signal.pause()


def main() -> None:
    """Store and stay."""
    method, name = sys.argv[1:]
    multiprocessing.set_start_method(method)
    segment = SharedMemory(name)
    segment.buf[0] = 1
    pipe, theirs = multiprocessing.Pipe()
    child = multiprocessing.Process(target=hold, args=(segment, theirs))
    child.start()
    pipe.recv()
    print(child.pid, flush=True)  # noqa: T201
    signal.pause()


if __name__ == "__main__":
    main()
