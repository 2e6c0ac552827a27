"""Children that sleep in the C library and do not come near Python.

They share the memory of their parents, as between vfork and exec, or were forked in the middle of
whatever other threads did.
"""

import ctypes
import signal
import threading
from pathlib import Path

from tests.posix.children import eventually

__all__ = ["clone_sharing", "fork_sleeping", "vfork_sleeping"]

_CLONE_VM, _CLONE_VFORK = 0x100, 0x4000
_STACK = 64 << 10
_SECONDS = 60

_libc = ctypes.CDLL(None, use_errno=True)
_libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
_stacks: list[ctypes.Array[ctypes.c_char]] = []


def clone_sharing(flags: int = 0) -> int:
    """A process that shares the memory of this one."""
    return fork_sleeping(_CLONE_VM | flags)


def fork_sleeping(flags: int = 0) -> int:
    """A forked process; other threads of this one go on meanwhile, which os.fork does not let."""
    stack = ctypes.create_string_buffer(_STACK)
    _stacks.append(stack)
    top = (ctypes.addressof(stack) + _STACK) & ~15
    sleep = ctypes.cast(_libc.sleep, ctypes.c_void_p)
    pid: int = _libc.clone(sleep, top, signal.SIGCHLD | flags, _SECONDS)
    return pid


def vfork_sleeping() -> int:
    """The same by vfork: a thread of this process waits until that has ended or called exec."""
    before = _children()
    threading.Thread(target=clone_sharing, args=(_CLONE_VFORK,), daemon=True).start()
    eventually(lambda: bool(_children() - before), "there is a child")
    (pid,) = _children() - before
    return pid


def _children() -> set[int]:
    lists = [task.read_text("ascii") for task in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for text in lists for pid in text.split()}
