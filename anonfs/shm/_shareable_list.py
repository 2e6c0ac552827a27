"""The standard library's list in shared memory, on an anonfs.

The standard class makes its segment by the name ``SharedMemory`` of its own module. Its constructor
is used as it is, with that one name bound to ours.
"""

from multiprocessing import shared_memory
from types import FunctionType
from typing import Any, TypeVar

from anonfs.shm._shared_memory import SharedMemory

__all__ = ["ShareableList"]

_Item = TypeVar("_Item", int, float, bool, str, bytes, None)


def _with_our_segments(function: Any) -> FunctionType:
    """The same function, in a world where ``SharedMemory`` is ours."""
    world = {**function.__globals__, "SharedMemory": SharedMemory}
    found = FunctionType(
        function.__code__, world, function.__name__, function.__defaults__, function.__closure__
    )
    found.__kwdefaults__ = function.__kwdefaults__
    return found


class ShareableList(shared_memory.ShareableList[_Item]):
    """A list of fixed length that processes share; ``shm`` is its `SharedMemory`."""

    __init__ = _with_our_segments(shared_memory.ShareableList.__init__)
