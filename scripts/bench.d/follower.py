"""A small process that follows the events of a mount: ``follower.py STREAM INODE``, told in lines.

It says ``ready`` once it follows the stream ``.anonfs/events``. A line ``N`` has it read on until
it was told of N events of the inode in all, upon which it says how many were lost. It ends with its
standard input.
"""

import os
import sys

__all__: list[str] = []

_READ_SIZE = 1 << 16


def _main() -> None:
    stream = os.open(sys.argv[1], os.O_RDONLY)
    wanted = b'"inode": %d,' % int(sys.argv[2])
    told = lost = 0
    _say("ready")
    partial = b""
    for line in sys.stdin:
        while told < int(line):
            text = partial + os.read(stream, _READ_SIZE)
            whole, _, partial = text.rpartition(b"\n")
            told += whole.count(wanted)
            lost += whole.count(b"lost=")
        _say(str(lost))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    _main()
