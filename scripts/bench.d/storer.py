"""A small process that stores to the first page of a file for ever: ``storer.py FILE SIZE``.

It has mapped SIZE bytes of it and read each page when it says ``ready``, and stores until its
standard input ends.
"""

import os
import sys
import threading
from itertools import count

from pages import first_words, mapped

__all__: list[str] = []


def _main() -> None:
    size = int(sys.argv[2])
    descriptor = os.open(sys.argv[1], os.O_RDWR)
    with mapped(descriptor, size) as area:
        first_words(area).sum()
        storing = memoryview(area).cast("Q")[1:2]  # the word beside, which nobody looks at
        threading.Thread(target=_store, args=[storing], daemon=True).start()
        print("ready", flush=True)  # noqa: T201
        sys.stdin.read()
        os._exit(0)


def _store(place: memoryview) -> None:
    for number in count():
        place[0] = number


if __name__ == "__main__":
    _main()
