"""A small process that forks holders of segments: ``holders.py KIND DIRECTORY COUNT EACH``.

Each of COUNT processes makes EACH segments and stores to their first page: files with the names
0, 1, ... in DIRECTORY where KIND is ``file``, segments of System V where it is ``sysv``. What it
says and how it ends see `gather`.
"""

import mmap
import os
import sys

import kernel_sysv
from gathering import gather

__all__: list[str] = []

_PAGE_SIZE = 4096  # numpy and anonfs stay out of what is forked


def _main() -> None:
    kind, directory, count, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    where = os.open(directory, os.O_PATH | os.O_DIRECTORY) if kind == "file" else -1

    def hold(number: int) -> list[mmap.mmap | kernel_sysv.Memory]:
        return [_made(where, str(name)) for name in range(number * each, (number + 1) * each)]

    gather(count, hold)


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
