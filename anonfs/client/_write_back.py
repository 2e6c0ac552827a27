"""Write-back of what mappings have stored to a file, and no more.

fdatasync(2) does it too, and then tells the daemon that it was called: a request more for each
call, that comes to nothing.
"""

import ctypes
import os

__all__ = ["write_back"]

_ALL = 1 | 2 | 4  # SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE, _WAIT_AFTER

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def write_back(descriptor: int) -> None:
    """Have the daemon know all that was stored to a file. Raises OSError: a write failed."""
    if _libc.sync_file_range(descriptor, 0, 0, _ALL) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
