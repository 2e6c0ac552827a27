"""mount(2) and umount2(2), by a daemon that may call them and is not root.

It has CAP_SYS_ADMIN in a user namespace then, over mounts of a namespace that belongs to it, which
since Linux 4.18 may be of FUSE. fusermount3 can do nothing there: its setuid bit counts for nothing
where root is nobody. The device has to be opened in the user namespace in which it is mounted.
"""

import ctypes
import os
import re
from pathlib import Path

from anonfs.client import FS_TYPE

__all__ = ["allowed", "mount", "unmount"]

_CAP_SYS_ADMIN = 21
_MS_NOSUID, _MS_NODEV = 2, 4
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


def allowed() -> bool:
    """Whether this process is one that mounts by itself."""
    if os.geteuid() == 0:
        return False
    status = Path("/proc/self/status").read_bytes()
    effective = re.search(rb"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> _CAP_SYS_ADMIN & 1)


def mount(path: Path) -> int:
    """Mount an anonfs on ``path``, for all users; returns its /dev/fuse descriptor.

    Raises OSError.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    owner = f"user_id={os.geteuid()},group_id={os.getegid()}"
    options = f"fd={device},rootmode=40000,{owner},default_permissions,allow_other"
    flags = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
    texts = (b"anonfs", os.fsencode(path), FS_TYPE.encode(), flags, options.encode())
    if _libc.mount(*texts) < 0:
        os.close(device)
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return device


def unmount(path: Path, *, lazy: bool) -> bool:
    """Take the mount on ``path`` away; False if that cannot be, as where it is in use."""
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    return bool(_libc.umount2(os.fsencode(path), flags) == 0)
