"""What shmctl tells: the structures of sys/shm.h, their fields by the C names."""

from dataclasses import dataclass

__all__ = ["IpcPerm", "ShmInfo", "ShmidDs", "Shminfo"]


@dataclass(slots=True)
class IpcPerm:
    """``struct ipc_perm``: whose a segment is. ``key`` is 0, IPC_PRIVATE, once it is removed."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    """Permission bits, and perhaps SHM_DEST and SHM_LOCKED."""
    seq: int


@dataclass(slots=True)
class ShmidDs:
    """``struct shmid_ds``: a segment. Sizes are bytes, times seconds since the epoch or 0."""

    shm_perm: IpcPerm
    shm_segsz: int
    shm_atime: int
    shm_dtime: int
    shm_ctime: int
    shm_cpid: int
    shm_lpid: int
    shm_nattch: int
    shmid: int
    """Its id, which SHM_STAT returns in C."""


@dataclass(frozen=True, slots=True)
class Shminfo:
    """``struct shminfo``, of IPC_INFO: the limits. ``shmmax`` is bytes, ``shmall`` pages."""

    shmmax: int
    shmmin: int
    shmmni: int
    shmseg: int
    shmall: int
    max_index: int
    """The highest index for SHM_STAT, which IPC_INFO returns in C; 0 where there is none."""


@dataclass(frozen=True, slots=True)
class ShmInfo:
    """``struct shm_info``, of SHM_INFO: what the segments take, in pages.

    Of segments that may not be read nothing but their size is counted. The last two are of the
    past: Linux counts nothing there either.
    """

    used_ids: int
    shm_tot: int
    shm_rss: int
    shm_swp: int
    swap_attempts: int
    swap_successes: int
    max_index: int
    """As of `Shminfo`."""
