"""A small process that forks many, which map one file and stay: ``crowd.py FD COUNT MAPPERS``.

The first MAPPERS of them map it, the others are only there. See `gather`.
"""

import mmap
import sys

from gathering import gather

__all__: list[str] = []

_PAGE_SIZE = 4096  # numpy and anonfs stay out of what is forked


def _main() -> None:
    fd, count, mappers = map(int, sys.argv[1:])

    def join(number: int) -> mmap.mmap | None:
        """Map the file, leave our number in our page."""
        if number >= mappers:
            return None
        area = mmap.mmap(fd, 0)
        at = number * _PAGE_SIZE
        area[at : at + 8] = (number + 1).to_bytes(8, sys.byteorder)
        return area

    gather(count, join)


if __name__ == "__main__":
    _main()
