"""What shmctl does with a segment, and what it tells of one and of all."""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from anonfs.inspection import Attaches, PageCounts
from anonfs.shm.sysv._constants import (
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    SHM_DEST,
    SHM_LOCK,
    SHM_LOCKED,
    SHM_UNLOCK,
    SHMMIN,
)
from anonfs.shm.sysv._failure import failure
from anonfs.shm.sysv._limits import Limits
from anonfs.shm.sysv._registry import Registry
from anonfs.shm.sysv._segment import PERMISSIONS, Record, Segment, permits
from anonfs.shm.sysv._structures import IpcPerm, ShmidDs, ShmInfo, Shminfo
from anonfs.units import pages_for

__all__ = ["SegmentView", "beyond", "control", "found", "told", "totals", "views"]

_AT_ONCE = 16
_READ = 0o444
_NOBODY_AT_ALL = (1 << 32) - 1  # the uid_t that chown(2) takes for nobody's
_SEQ_SHIFT = 15  # as in the kernel, whose ids have an index below it


@dataclass(frozen=True, slots=True)
class SegmentView:
    """A segment as `anonfs ipcs` shows it.

    The last two are None of a segment that this process may not read; its ``ds`` then has only what
    stat(2) tells.
    """

    ds: ShmidDs
    pages: PageCounts | None
    holders: list[int] | None
    """The processes that are attached."""


def found(registry: Registry, shmid: int) -> Segment:
    """The segment ``shmid``, to be used as a context manager. Raises OSError: EINVAL."""
    segment = registry.by_id(shmid)
    if segment is None:
        raise failure(errno.EINVAL)
    return segment


def control(registry: Registry, segment: Segment, cmd: int, buf: ShmidDs | None) -> ShmidDs | None:
    """Do ``cmd``, one of those that are about one segment; see `Namespace.shmctl`."""
    status = segment.status()
    if cmd == IPC_STAT:
        if not permits(status, _READ):
            raise failure(errno.EACCES)
        return _described(registry, segment)
    if cmd not in {IPC_SET, IPC_RMID, SHM_LOCK, SHM_UNLOCK} or (cmd == IPC_SET and buf is None):
        raise failure(errno.EINVAL)
    if os.geteuid() not in {0, status.st_uid}:
        raise failure(errno.EPERM)
    if cmd == IPC_RMID:
        registry.remove(segment)
    elif cmd != IPC_SET:
        with segment.owned():
            segment.locked = cmd == SHM_LOCK
    elif buf is not None:
        _set(segment, buf.shm_perm)
    return None


def _set(segment: Segment, perm: IpcPerm) -> None:
    if not (0 <= perm.uid < _NOBODY_AT_ALL and 0 <= perm.gid < _NOBODY_AT_ALL):
        raise failure(errno.EINVAL)
    with segment.owned():
        segment.write_record(replace(_record_of(segment), ctime=int(time.time())))
        segment.set_owner(perm.uid, perm.gid)
    # Last, for whoever takes them away from himself can do nothing after it.
    segment.set_mode(perm.mode & PERMISSIONS)


def _record_of(segment: Segment) -> Record:
    """What the creator wrote, or what can be told without it."""
    return segment.record() or _poor_record(segment)


def _poor_record(segment: Segment) -> Record:
    status = segment.status()
    return Record(segment.shmid, 0, status.st_uid, status.st_gid, 0, int(status.st_ctime))


def _described(registry: Registry, segment: Segment) -> ShmidDs:
    record = _record_of(segment)
    key = registry.key_of(segment, record)
    return _ds(segment, record, key, segment.attaches(), locked=segment.locked)


def _ds(segment: Segment, record: Record, key: int, attaches: Attaches, *, locked: bool) -> ShmidDs:
    status = segment.status()
    mode = stat.S_IMODE(status.st_mode) & PERMISSIONS
    mode |= (SHM_DEST if segment.removed else 0) | (SHM_LOCKED if locked else 0)
    perm = IpcPerm(
        key=key - (1 << 32) if key >= 1 << 31 else key,
        uid=status.st_uid,
        gid=status.st_gid,
        cuid=record.cuid,
        cgid=record.cgid,
        mode=mode,
        seq=segment.shmid >> _SEQ_SHIFT,
    )
    return ShmidDs(
        shm_perm=perm,
        shm_segsz=status.st_size,
        shm_atime=attaches.atime,
        shm_dtime=attaches.dtime,
        shm_ctime=record.ctime,
        shm_cpid=record.cpid,
        shm_lpid=attaches.lpid,
        shm_nattch=attaches.nattch,
        shmid=segment.shmid,
    )


def views(registry: Registry) -> list[SegmentView]:
    """All segments, by id; then what has a key and no id, because somebody took that name away."""
    listing = registry.listing()
    keys = {ino: key for key, ino in listing.keys.items()}
    lost = [keys[ino] for ino in sorted(keys.keys() - listing.ids.values())]

    def view(find: Callable[[], Segment | None]) -> SegmentView | None:
        segment = find()
        if segment is None:
            return None
        with segment:
            return _view(registry, segment, keys)

    wanted = [partial(registry.by_id, shmid) for shmid in sorted(listing.ids)]
    wanted += [partial(registry.by_key, key) for key in lost]
    # Who is attached takes a look at all processes, which many can share.
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return [seen for seen in threads.map(view, wanted) if seen is not None]


def _view(registry: Registry, segment: Segment, keys: dict[int, int]) -> SegmentView:
    key = keys.get(segment.status().st_ino, 0)
    try:
        record, attaches = _record_of(segment), segment.attaches()
        key = registry.key_of(segment, record) or key
        ds = _ds(segment, record, key, attaches, locked=segment.locked)
        return SegmentView(ds, segment.pages(), segment.holders())
    except PermissionError:
        ds = _ds(segment, _poor_record(segment), key, Attaches(0, 0, 0, 0), locked=False)
        return SegmentView(ds, None, None)


def told(registry: Registry, limits: Limits) -> Shminfo:
    """What IPC_INFO tells of ``limits``."""
    return Shminfo(
        shmmax=limits.shmmax,
        shmmin=SHMMIN,
        shmmni=limits.shmmni,
        shmseg=limits.shmmni,
        shmall=limits.shmall,
        max_index=max(len(registry.listing().ids) - 1, 0),
    )


def beyond(registry: Registry) -> bool:
    """Whether there are more segments, or larger ones, than the mount's limits allow."""
    limits = registry.limits()
    if not limits.count:
        return False
    sizes = [segment.status().st_size for segment in _all(registry)]
    return len(sizes) > limits.shmmni or sum(map(pages_for, sizes)) > limits.shmall


def totals(registry: Registry) -> ShmInfo:
    """What SHM_INFO tells."""
    used = total = in_core = on_swap = 0
    for segment in _all(registry):
        used, total = used + 1, total + pages_for(segment.status().st_size)
        with contextlib.suppress(PermissionError):
            pages = segment.pages()
            in_core, on_swap = in_core + pages.in_core, on_swap + pages.on_swap
    return ShmInfo(used, total, in_core, on_swap, 0, 0, max(used - 1, 0))


def _all(registry: Registry) -> Iterator[Segment]:
    """Each segment, open until the next one."""
    for shmid in registry.listing().ids:
        segment = registry.by_id(shmid)
        if segment is not None:
            with segment:
                yield segment
