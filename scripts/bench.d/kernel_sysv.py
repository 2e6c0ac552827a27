"""System V shared memory of the kernel: the calls of shmget(2) and shmop(2), which Python has not.

A segment is marked as removed as soon as it is attached, so that it goes with its last process even
if that is killed. Linux lets others attach it by its id all the same.
"""

import ctypes
import os

__all__ = ["Memory", "attach", "attach_new", "detach"]

Memory = ctypes.Array[ctypes.c_char]

_IPC_PRIVATE, _IPC_CREAT, _IPC_RMID = 0, 0o1000, 0
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
_libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_libc.shmat.restype = ctypes.c_void_p
_libc.shmdt.argtypes = [ctypes.c_void_p]
_libc.shmctl.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]


def _checked(succeeded: bool, what: str) -> None:
    if not succeeded:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)


def attach_new(size: int) -> tuple[int, Memory]:
    """The id and the memory of a new segment of ``size`` bytes; it goes with its last `detach`."""
    number: int = _libc.shmget(_IPC_PRIVATE, size, _IPC_CREAT | 0o600)
    _checked(number >= 0, "shmget")
    memory = attach(number, size)
    _checked(_libc.shmctl(number, _IPC_RMID, None) == 0, "shmctl")
    return number, memory


def attach(number: int, size: int) -> Memory:
    """The memory of a segment."""
    address = _libc.shmat(number, None, 0)
    _checked(address != _FAILED, "shmat")
    return (ctypes.c_char * size).from_address(address)


def detach(memory: Memory) -> None:
    """Unmap it; nobody may use it any more."""
    _checked(_libc.shmdt(ctypes.addressof(memory)) == 0, "shmdt")
