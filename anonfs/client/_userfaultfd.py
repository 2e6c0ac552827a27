"""Making a userfaultfd: the one call of userfaultfd(2) that a process has to make itself.

Everything else, from the handshake on, is done by the daemon that is handed the descriptor.
"""

import ctypes
import errno
import os
import platform

__all__ = ["new_userfaultfd"]

_NUMBERS = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1


def new_userfaultfd() -> int:
    """A userfaultfd of this process, not blocking and closed at exec.

    It is for faults of user mode alone, which every process may have and which are not what it is
    for.

    Raises:
        OSError: ENOSYS or EPERM, where there is none to be had.
    """
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, "userfaultfd(2) has no known number on this machine")
    libc = ctypes.CDLL(None, use_errno=True)
    flags = os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY
    descriptor: int = libc.syscall(ctypes.c_long(number), ctypes.c_long(flags))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor
