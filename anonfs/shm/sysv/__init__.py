"""System V shared memory on an anonfs: shmget, shmat, shmdt and shmctl as the man pages have them.

    >>> from anonfs.shm.sysv import IPC_CREAT, IPC_RMID, IPC_STAT, shmat, shmctl, shmdt, shmget
    >>> shmid = shmget(0x1234, 1 << 20, IPC_CREAT | 0o600)
    >>> memory = shmat(shmid)
    >>> memory[:5] = b"hello"
    >>> shmctl(shmid, IPC_STAT).shm_nattch
    1
    >>> shmctl(shmid, IPC_RMID)
    >>> shmdt(memory)

A segment is a file of the mount, so that all processes that see the mount see the same segments,
those of every user, and another mount has others. Its owner and mode are the file's, its pages go
to swap as those of any file do, and what the kernel counts for its own segments the daemon counts
for these: ``shm_nattch`` is the number of vm areas in the share ring of its inode. See
`anonfs.shm.sysv._registry` for the names that segments have.

What differs from Linux: a segment that was removed cannot be attached any more (EIDRM), while Linux
lets one attach until the last has detached; the owner of a segment can give it away only where
chown(2) lets him, and its creator, if that is somebody else by then, has no part in it; there is
no SHM_EXEC and no SHM_HUGETLB, which are ignored, and no SHM_STAT_ANY; ids have no order.
"""

from anonfs.shm.sysv._attachment import Attachment, PlacedAttachment
from anonfs.shm.sysv._calls import shmat, shmctl, shmdt, shmget
from anonfs.shm.sysv._constants import (
    IPC_CREAT,
    IPC_EXCL,
    IPC_INFO,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    SHM_DEST,
    SHM_INFO,
    SHM_LOCK,
    SHM_LOCKED,
    SHM_R,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_STAT,
    SHM_UNLOCK,
    SHM_W,
    SHMLBA,
    SHMMIN,
)
from anonfs.shm.sysv._control import SegmentView
from anonfs.shm.sysv._namespace import Namespace
from anonfs.shm.sysv._structures import IpcPerm, ShmidDs, ShmInfo, Shminfo

__all__ = [
    "IPC_CREAT",
    "IPC_EXCL",
    "IPC_INFO",
    "IPC_PRIVATE",
    "IPC_RMID",
    "IPC_SET",
    "IPC_STAT",
    "SHMLBA",
    "SHMMIN",
    "SHM_DEST",
    "SHM_INFO",
    "SHM_LOCK",
    "SHM_LOCKED",
    "SHM_R",
    "SHM_RDONLY",
    "SHM_REMAP",
    "SHM_RND",
    "SHM_STAT",
    "SHM_UNLOCK",
    "SHM_W",
    "Attachment",
    "IpcPerm",
    "Namespace",
    "PlacedAttachment",
    "SegmentView",
    "ShmInfo",
    "ShmidDs",
    "Shminfo",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
]
