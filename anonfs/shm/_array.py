"""A numpy array on a segment: it keeps the segment mapped, and other processes get it by name.

What is pickled, for a pool, a queue or joblib, is where the array is: segment, offset, shape,
strides. That holds for its views as well, and those of one pickle share one mapping::

    segment   |0.........................................|
    a         |= shape (6, 7) ===========================|
    a[1:3]           |=============|                        the same segment, another offset

What is computed from it is a plain array. So is what is unpickled once the segment has lost its
name, since nobody could find it by then: the pickle has the numbers in it.
"""

import math
import os
from typing import Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from anonfs.shm._shared_memory import SharedMemory

__all__ = ["SharedArray", "array"]

_Array = np.ndarray[Any, np.dtype[Any]]


class SharedArray(np.ndarray[Any, np.dtype[Any]]):
    """An array whose numbers are in a segment; made by `array`.

    Attributes:
        shm: the segment; None where the numbers are somewhere else.
    """

    shm: SharedMemory | None

    def __new__(
        cls,
        shm: SharedMemory,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        offset: int = 0,
        strides: tuple[int, ...] | None = None,
    ) -> Self:
        """The numbers of ``shm`` from the byte ``offset`` on; strides are in bytes."""
        # Of an array, since of plain memory numpy would keep the address and export nothing.
        self = super().__new__(cls, shape, dtype, _bytes(shm), offset, strides)
        self.shm = shm
        return self

    def __array_finalize__(self, parent: object) -> None:
        """A view of one is on its segment, a copy is not."""
        self.shm = None
        if isinstance(parent, SharedArray) and np.may_share_memory(self, parent):
            self.shm = parent.shm

    def __array_wrap__(
        self, result: _Array, context: Any = None, return_scalar: bool = False
    ) -> Any:
        """Plain arrays and scalars come of computing, unless it was in place."""
        if np.may_share_memory(result, self):
            view = result.view(type(self))
            view.shm = self.shm
            return view
        return result[()] if return_scalar or not result.ndim else result.view(np.ndarray)

    def __getitem__(self, key: Any) -> Any:
        """A view is on the segment, too; what is picked out in no order is a plain array."""
        found = super().__getitem__(key)
        if isinstance(found, SharedArray) and found.shm is None:
            return found.view(np.ndarray)
        return found

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        """Where it is, or else the numbers."""
        if self.shm is None or not _has_its_name(self.shm):
            return self.view(np.ndarray).__reduce_ex__(protocol)
        offset = _address(self) - _address(_bytes(self.shm))
        return type(self), (self.shm, self.shape, self.dtype, offset, self.strides)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.__reduce_ex__(2)


def _bytes(shm: SharedMemory) -> _Array:
    return np.frombuffer(shm.buf, np.uint8)


def _address(of: _Array) -> int:
    """Where its first number is."""
    return int(of.__array_interface__["data"][0])


def _has_its_name(shm: SharedMemory) -> bool:
    """Whether who opens the name gets this segment."""
    try:
        return os.path.samestat(os.stat(shm.path), os.fstat(shm.fileno()))  # noqa: PTH116
    except FileNotFoundError:
        return False


def array(
    shape: int | tuple[int, ...],
    dtype: npt.DTypeLike = float,
    name: str | None = None,
    *,
    reap: str | None = None,
    attach: bool = True,
    mount: str | os.PathLike[str] | None = None,
) -> SharedArray:
    """A numpy array in shared memory, of zeros if it is new.

    With a name every process may make the same call, and whoever comes first makes the segment;
    ``unlink`` of its ``shm`` takes it away. Without one the segment goes with its last mapping,
    however that ended: keep the array until those that are to have it do. A pickle has the name in
    it; what is to be kept in a file is for `numpy.save`.

    Args:
        shape: as for `numpy.zeros`.
        dtype: as for `numpy.zeros`, but not of Python objects.
        name: of the segment.
        reap: as for `SharedMemory`, by default ``last-area`` without a name.
        attach: as for `SharedMemory`.
        mount: as for `SharedMemory`.

    Raises:
        ValueError: the segment has another size than the array; there would be nothing in the
            array; it would be one of objects.
        OSError: as `SharedMemory`.
    """
    of = np.dtype(dtype)
    if of.hasobject:
        raise ValueError("an array of objects cannot be shared: they are in one process alone")
    dimensions = (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(dimensions) * of.itemsize
    if reap is None and name is None:
        reap = "last-area"
    shm = SharedMemory(
        name, create=True, size=size, exist_ok=True, reap=reap, attach=attach, mount=mount
    )
    if shm.size != size:
        raise ValueError(
            f"segment {shm.name!r} has {shm.size} bytes, and shape {dimensions} of {of} {size}"
        )
    return SharedArray(shm, dimensions, of)
