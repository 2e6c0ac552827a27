"""Who uses a mapping, and must not have it changed under him: views of it, and other areas."""

import contextlib
import ctypes
import os

from anonfs.client import Mapping, areas
from anonfs.units import PAGE_SIZE, pages_for

__all__ = ["check_no_views", "check_nobody_maps_beyond"]


def check_no_views(mapping: Mapping) -> None:
    """Raise BufferError where there are views of it, or what else exports its buffer."""
    with contextlib.suppress(ValueError):  # that this is no size is found out last
        mapping.resize(-1)


def check_nobody_maps_beyond(mapping: Mapping, size: int) -> None:
    """Raise BufferError where another area than this has, or may have, more than ``size`` bytes."""
    end = pages_for(size) * PAGE_SIZE
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    found, complete = areas(mapping)
    for area in found:
        if area.start is not None and area.end is not None:
            is_this = area.pid == os.getpid() and area.start == address
            if is_this or area.offset + area.end - area.start <= end:
                continue
        raise BufferError(f"process {area.pid} has more than {size} bytes of it mapped")
    if not complete:
        raise BufferError(f"others may have more than {size} bytes of it mapped")
