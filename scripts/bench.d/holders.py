"""A small process that forks holders of segments: ``holders.py KIND DIRECTORY COUNT EACH``.

Each of COUNT processes makes EACH segments and stores to their first page: files with the names
0, 1, ... in DIRECTORY where KIND is ``file``, segments of System V where it is ``sysv``. Says in
one line how many seconds passed until all of them were there. They end with their parent, and it
ends with its standard input.
"""

import mmap
import os
import signal
import sys
from time import perf_counter
from typing import NoReturn

import kernel_sysv
from syscalls import die_with_parent

__all__: list[str] = []

_PAGE_SIZE = 4096  # numpy and anonfs stay out of what is forked


def _main() -> None:
    kind, directory, count, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    where = os.open(directory, os.O_PATH | os.O_DIRECTORY) if kind == "file" else -1
    gate, end_of_gate = os.pipe()
    counted, count_me = os.pipe()
    parent, begin = os.getpid(), perf_counter()
    for number in range(count):
        if os.fork() == 0:
            os.close(end_of_gate)
            _hold(parent, where, range(number * each, (number + 1) * each), count_me, gate)
    os.close(count_me)
    here = 0
    while here < count and (said := os.read(counted, count)):
        here += len(said)
    print(perf_counter() - begin if here == count else f"only {here} came", flush=True)  # noqa: T201
    sys.stdin.read()
    os.close(end_of_gate)
    for _ in range(count):
        os.wait()


def _hold(parent: int, where: int, names: range, count_me: int, gate: int) -> NoReturn:
    """Make segments of these names, stay."""
    die_with_parent(signal.SIGKILL)
    if os.getppid() == parent:
        kept = [_made(where, str(name)) for name in names]
        os.write(count_me, b"." if kept else b"")
        os.close(count_me)
        os.read(gate, 1)
    os._exit(0)


def _made(where: int, name: str) -> mmap.mmap | kernel_sysv.Memory:
    if where < 0:
        _, memory = kernel_sysv.attach_new(_PAGE_SIZE)
        memory[0] = b"\1"
        return memory
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=where)
    os.ftruncate(fd, _PAGE_SIZE)
    area = mmap.mmap(fd, _PAGE_SIZE)
    os.close(fd)
    area[0] = 1
    return area


if __name__ == "__main__":
    _main()
