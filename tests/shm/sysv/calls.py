"""The four calls, of the kernel and ours, in one form: addresses are numbers, errors their names.

Of `stat` the fields are those of shmid_ds, times only as far as they are set.
"""

import ctypes
import encodings.ascii  # noqa: F401  the users acted as may not be able to load it
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from anonfs.shm import sysv
from tests.posix.children import User

__all__ = ["Calls", "Kernel", "Ours", "Raw", "acting_as", "outcome", "remove_all"]

_CLONE_NEWIPC = 0x08000000

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
libc.shmdt.argtypes = (ctypes.c_void_p,)
libc.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
libc.shmctl.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class Raw(ctypes.Structure):
    """struct shmid_ds of 64-bit Linux."""

    _fields_ = (
        ("key", ctypes.c_int),
        ("uid", ctypes.c_uint),
        ("gid", ctypes.c_uint),
        ("cuid", ctypes.c_uint),
        ("cgid", ctypes.c_uint),
        ("mode", ctypes.c_uint),
        ("seq", ctypes.c_ushort),
        ("reserved", ctypes.c_ulong * 2),
        ("segsz", ctypes.c_size_t),
        ("atime", ctypes.c_long),
        ("dtime", ctypes.c_long),
        ("ctime", ctypes.c_long),
        ("cpid", ctypes.c_int),
        ("lpid", ctypes.c_int),
        ("nattch", ctypes.c_ulong),
        ("unused", ctypes.c_ulong * 2),
    )


_PERM = "key", "uid", "gid", "cuid", "cgid", "mode"
_SEGMENT = "segsz", "cpid", "lpid", "nattch"
_TIMES = "atime", "dtime", "ctime"


class Calls(Protocol):
    """What a case is written for."""

    def get(self, key: int, size: int, flags: int) -> int: ...
    def at(self, shmid: int, address: int | None = None, flags: int = 0) -> int: ...
    def dt(self, address: int) -> None: ...
    def stat(self, shmid: int, cmd: int = sysv.IPC_STAT) -> dict[str, Any]: ...
    def set(self, shmid: int, uid: int, gid: int, mode: int) -> None: ...
    def ctl(self, shmid: int, cmd: int) -> None: ...
    def totals(self) -> tuple[int, int, int]: ...


def outcome(call: Any, *arguments: Any) -> Any:
    """What a call returns, or the name of its errno."""
    try:
        return call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Kernel:
    """The kernel's own, of an IPC namespace of this process's where it may have one."""

    def __init__(self) -> None:
        libc.unshare(_CLONE_NEWIPC)
        self.made: set[int] = set()

    def get(self, key: int, size: int, flags: int) -> int:
        shmid = _checked(libc.shmget(key, ctypes.c_size_t(size), flags))
        self.made.add(shmid)
        return shmid

    @staticmethod
    def at(shmid: int, address: int | None = None, flags: int = 0) -> int:
        found = libc.shmat(shmid, address, flags)
        _checked(-1 if found == ctypes.c_void_p(-1).value else 0)
        return int(found)

    @staticmethod
    def dt(address: int) -> None:
        _checked(libc.shmdt(address))

    @staticmethod
    def stat(shmid: int, cmd: int = sysv.IPC_STAT) -> dict[str, Any]:
        raw = Raw()
        _checked(libc.shmctl(shmid, cmd, ctypes.byref(raw)))
        times = {name: getattr(raw, name) > 0 for name in _TIMES}
        return {name: getattr(raw, name) for name in (*_PERM, *_SEGMENT)} | times

    @staticmethod
    def set(shmid: int, uid: int, gid: int, mode: int) -> None:
        raw = Raw(uid=uid, gid=gid, mode=mode)
        _checked(libc.shmctl(shmid, sysv.IPC_SET, ctypes.byref(raw)))

    @staticmethod
    def ctl(shmid: int, cmd: int) -> None:
        _checked(libc.shmctl(shmid, cmd, None))

    @staticmethod
    def totals() -> tuple[int, int, int]:
        info = (ctypes.c_ulong * 8)()
        highest = _checked(libc.shmctl(0, sysv.SHM_INFO, ctypes.byref(info)))
        used = ctypes.cast(info, ctypes.POINTER(ctypes.c_int))[0]
        return used, info[1], highest

    def clean(self) -> None:
        for shmid in self.made:
            libc.shmctl(shmid, sysv.IPC_RMID, None)


class Ours:
    """Those of a mount."""

    def __init__(self, mount: os.PathLike[str]) -> None:
        self.namespace = sysv.Namespace(mount)
        self.get = self.namespace.shmget
        self.dt = self.namespace.shmdt

    def at(self, shmid: int, address: int | None = None, flags: int = 0) -> int:
        return self.namespace.shmat(shmid, address, flags).address

    def stat(self, shmid: int, cmd: int = sysv.IPC_STAT) -> dict[str, Any]:
        found = self.namespace.shmctl(shmid, cmd)
        assert isinstance(found, sysv.ShmidDs)
        perm = {name: getattr(found.shm_perm, name) for name in _PERM}
        times = {name: getattr(found, f"shm_{name}") > 0 for name in _TIMES}
        return perm | {name: getattr(found, f"shm_{name}") for name in _SEGMENT} | times

    def set(self, shmid: int, uid: int, gid: int, mode: int) -> None:
        perm = sysv.IpcPerm(0, uid, gid, 0, 0, mode, 0)
        buf = sysv.ShmidDs(perm, 0, 0, 0, 0, 0, 0, 0, 0)
        self.namespace.shmctl(shmid, sysv.IPC_SET, buf)

    def ctl(self, shmid: int, cmd: int) -> None:
        self.namespace.shmctl(shmid, cmd)

    def totals(self) -> tuple[int, int, int]:
        info = self.namespace.shmctl(0, sysv.SHM_INFO)
        assert isinstance(info, sysv.ShmInfo)
        return info.used_ids, info.shm_tot, info.max_index

    def clean(self) -> None:
        remove_all(self.namespace)


def remove_all(namespace: sysv.Namespace) -> None:
    """Remove what `Namespace.segments` shows; the daemon may be faster."""
    for one in namespace.segments():
        try:
            if one.ds.shmid:
                namespace.shmctl(one.ds.shmid, sysv.IPC_RMID)
            else:
                namespace.remove_key(one.ds.shm_perm.key)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOENT}:
                raise


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Make the calls of the body with the effective ids of ``user``."""
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
