"""The numbers of sys/ipc.h and sys/shm.h, by their C names; of Linux, on every architecture."""

import mmap
from typing import Final

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
]

IPC_PRIVATE: Final = 0
IPC_CREAT: Final = 0o1000
IPC_EXCL: Final = 0o2000

IPC_RMID: Final = 0
IPC_SET: Final = 1
IPC_STAT: Final = 2
IPC_INFO: Final = 3
SHM_LOCK: Final = 11
SHM_UNLOCK: Final = 12
SHM_STAT: Final = 13
SHM_INFO: Final = 14

SHM_R: Final = 0o400
SHM_W: Final = 0o200
SHM_RDONLY: Final = 0o10000
SHM_RND: Final = 0o20000
SHM_REMAP: Final = 0o40000

SHM_DEST: Final = 0o1000
"""In ``shm_perm.mode``: the segment goes with its last attachment."""
SHM_LOCKED: Final = 0o2000
"""In ``shm_perm.mode``: the segment is kept out of swap."""

SHMLBA: Final = mmap.PAGESIZE
"""What ``SHM_RND`` rounds an address down to a multiple of."""
SHMMIN: Final = 1
