"""Shared memory by name, as Python knows it, on an anonfs.

    >>> from anonfs.shm import SharedMemory
    >>> segment = SharedMemory("job-7", create=True, size=1 << 20, reap="last-area")
    >>> segment.buf[:5] = b"hello"
    >>> SharedMemory("job-7").resize(2 << 20)

`SharedMemory` and `ShareableList` stand in for those of `multiprocessing.shared_memory`; `array`
makes numpy arrays in segments. Segments are files in the root of the mount: with the mount on
/dev/shm they are those of shm_open(3), and of the standard library.

This floor stands on the client, and finds the mount as `anonfs.client.connect` does.
"""

import importlib
from typing import TYPE_CHECKING

from anonfs.shm._shareable_list import ShareableList
from anonfs.shm._shared_memory import SharedMemory

if TYPE_CHECKING:
    from anonfs.shm._array import SharedArray, array

__all__ = ["ShareableList", "SharedArray", "SharedMemory", "array"]


def __getattr__(name: str) -> object:
    """What arrays are for, once it is asked for: numpy takes longer to import than all the rest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("anonfs.shm._array"), name)
