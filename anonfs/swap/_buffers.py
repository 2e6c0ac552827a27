"""Buffers that a store can take: page-aligned, as O_DIRECT demands and numpy does not promise."""

import numpy as np
import numpy.typing as npt

from anonfs.units import PAGE_SIZE

__all__ = ["aligned_pages"]


def aligned_pages(count: int) -> npt.NDArray[np.uint8]:
    """``count`` pages of any content, of shape (count, PAGE_SIZE)."""
    raw = np.empty((count + 1) * PAGE_SIZE, np.uint8)
    start = -raw.ctypes.data % PAGE_SIZE
    return raw[start : start + count * PAGE_SIZE].reshape(count, PAGE_SIZE)
