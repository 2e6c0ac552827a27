"""Descriptors of other processes: which file one is, as /proc tells.

Who has a file open for reading may read it, whatever its permissions are by now and wherever its
name went, so a descriptor says more than a path. It is asked for by the thread that made the
request and waits for the answer: what other threads of the process do to the descriptor meanwhile
they could have done before.

Nothing of the file is touched, it might be of a file system that does not answer: /proc tells the
inode number (since Linux 5.14) and the mount, and the process's table of mounts the device.
"""

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from anonfs.errors import AnonfsError

__all__ = ["Descriptor", "descriptor_of"]

_FIELD = re.compile(r"^(flags|mnt_id|ino):\s*(\d+)$", re.MULTILINE)


class Descriptor(NamedTuple):
    """An open file of a process: its flags as of open(2), its (major, minor) device, its inode.

    The device is not known where the process does not see the mount, as after an unmount.
    """

    flags: int
    device: tuple[int, int] | None
    ino: int

    @property
    def is_readable(self) -> bool:
        """Whether it may be read."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY and not self.flags & os.O_PATH


def descriptor_of(pid: int, number: int) -> Descriptor:
    """Descriptor ``number`` of the process or thread ``pid``. It reads /proc: for a thread.

    Raises:
        AnonfsError: EBADF, there is no such descriptor; EPERM, the process cannot be seen from
            here.
    """
    process = Path(f"/proc/{pid}")
    try:
        fields = dict(_FIELD.findall((process / f"fdinfo/{number}").read_text(encoding="ascii")))
        mounts = (process / "mountinfo").read_bytes()
    except FileNotFoundError:
        if pid and process.exists():
            raise AnonfsError(errno.EBADF, f"descriptor {number}") from None
        raise AnonfsError(errno.EPERM, "the process cannot be seen") from None
    except (PermissionError, ProcessLookupError):
        raise AnonfsError(errno.EPERM, "the process cannot be seen") from None
    mount = re.search(rb"^%d \d+ (\d+):(\d+) " % int(fields["mnt_id"]), mounts, re.MULTILINE)
    device = None if mount is None else (int(mount[1]), int(mount[2]))
    return Descriptor(int(fields["flags"], 8), device, int(fields["ino"]))
