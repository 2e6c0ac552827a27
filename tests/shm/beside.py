"""Our segments and the standard library's are the same, with an anonfs on /dev/shm.

Run as ``python -m tests.shm.beside`` in a mount namespace of its own; prints ``done``.
"""

import itertools
import os
from contextlib import suppress
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from anonfs.shm import SharedMemory

__all__: list[str] = []


def main() -> None:
    """Check it, either way round."""
    directory = Path("/dev/shm")
    for one, other in itertools.permutations([SharedMemory, shared_memory.SharedMemory]):
        made = one("name", create=True, size=5000)
        found: Any = other("name")
        assert (found.size, found.name) == (5000, made.name)
        found.buf[4999] = 7
        assert made.buf is not None
        assert made.buf[4999] == 7
        ours, standard = (made, found) if isinstance(made, SharedMemory) else (found, made)
        assert len(ours.holders()[os.getpid()]) == 2
        with suppress(BufferError):
            ours.resize(10)
            raise AssertionError("the other is cut off")
        assert [path.name for path in directory.iterdir()] == ["name"]
        found.close()
        made.close()
        standard.unlink()  # or it would miss what is gone
        assert not list(directory.iterdir())
    print("done")  # noqa: T201


if __name__ == "__main__":
    main()
