"""The four calls, on the segments of one mount. What becomes of its names is `Registry`'s."""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Literal, overload

from anonfs.client import DaemonGoneError, NoMountError, find_mount, limits, mount_of
from anonfs.shm.sysv._attachment import Attached, Attachment, PlacedAttachment, detach, make_room
from anonfs.shm.sysv._constants import (
    IPC_CREAT,
    IPC_EXCL,
    IPC_INFO,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_STAT,
    SHM_INFO,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_STAT,
    SHMLBA,
    SHMMIN,
)
from anonfs.shm.sysv._control import SegmentView, beyond, control, found, told, totals, views
from anonfs.shm.sysv._failure import failure
from anonfs.shm.sysv._limits import Limits
from anonfs.shm.sysv._registry import Registry
from anonfs.shm.sysv._segment import PERMISSIONS, permits
from anonfs.shm.sysv._structures import ShmidDs, ShmInfo, Shminfo

__all__ = ["Namespace"]


class Namespace:
    """The segments of the anonfs that ``mount`` lies in, or of the one that `connect` would find.

    Raises:
        NoMountError, DaemonGoneError: as `anonfs.client.connect`.
    """

    def __init__(self, mount: str | os.PathLike[str] | None = None) -> None:
        found = find_mount(mount)
        self.root = mount_of(found) or found
        """The root of the mount."""
        self._device = self.root.stat().st_dev

    @property
    def alive(self) -> bool:
        """Whether the mount is still there."""
        try:
            return self.root.stat().st_dev == self._device
        except OSError:
            return False

    def shmget(self, key: int, size: int, shmflg: int = 0) -> int:
        """The id of the segment that has ``key``, or of a new one of ``size`` bytes.

        A new one it is for IPC_PRIVATE, and with IPC_CREAT where no segment has the key. ``shmflg``
        has its permission bits; of an existing one, those that the caller means to use.

        Raises:
            OSError: ENOENT, no segment has the key; EEXIST, one has it, and IPC_EXCL is set;
                EINVAL, the size is below 1 or above shmmax, or beyond that of the existing one;
                EACCES; ENOSPC, EDQUOT, there is no room for that many or that large ones.
        """
        name = _unsigned(key)
        if size < 0:
            raise failure(errno.EINVAL)
        with self.registry() as registry:
            while True:
                if key != IPC_PRIVATE:
                    shmid = registry.id_of_key(name)
                    if shmid is not None:
                        segment = registry.by_id(shmid)
                        if segment is None:
                            continue  # Removed since.
                        with segment:
                            _require_usable(segment.status(), size, shmflg)
                        return shmid
                    if not shmflg & IPC_CREAT:
                        raise failure(errno.ENOENT)
                shmid = self._create(registry, name, size, shmflg & PERMISSIONS)
                if shmid is not None:
                    return shmid

    def _create(self, registry: Registry, key: int, size: int, mode: int) -> int | None:
        if not SHMMIN <= size <= registry.limits().shmmax:
            raise failure(errno.EINVAL)
        try:
            shmid = registry.create(size, mode, key)
        except OSError as error:
            # To the daemon it is one file that is too large.
            if error.errno == errno.ENOSPC and size > self._limits(registry).shmmax:
                raise failure(errno.EINVAL) from error
            raise
        # Counted with the new one, so that of several who make one no two take the same room.
        if shmid is not None and beyond(registry):
            with contextlib.suppress(OSError), found(registry, shmid) as segment:
                registry.remove(segment)
            raise failure(errno.ENOSPC)
        return shmid

    def _limits(self, registry: Registry) -> Limits:
        return registry.limits().within(limits(self.root).limits)

    def shmat(self, shmid: int, shmaddr: int | None = None, shmflg: int = 0) -> Attached:
        """Attach the segment ``shmid``, at ``shmaddr`` if that is given; SHM_RDONLY to read only.

        With SHM_RND the address is rounded down to a multiple of SHMLBA, and with SHM_REMAP it
        replaces what is mapped there.

        Raises:
            OSError: EINVAL, there is no such segment, or it cannot lie there; EIDRM, it is removed
                (where Linux lets one attach until the last has detached); EACCES; ENOMEM.
            BufferError: what SHM_REMAP would replace is in use.
        """
        address = _address(shmaddr, shmflg)
        read_only = bool(shmflg & SHM_RDONLY)
        with self.registry() as registry:
            descriptor = registry.open(shmid, read_only=read_only)
        try:
            size = os.fstat(descriptor).st_size
            attachment: Attached
            if not size:  # it is being made
                raise failure(errno.EINVAL)
            if not address:
                attachment = Attachment(descriptor, size, shmid=shmid, read_only=read_only)
            else:
                replaces = bool(shmflg & SHM_REMAP)
                if replaces:
                    make_room(address, size)
                attachment = PlacedAttachment(
                    descriptor,
                    size,
                    shmid=shmid,
                    read_only=read_only,
                    address=address,
                    replace=replaces,
                )
            # Removed since it was opened, by somebody who found nobody attached.
            if not os.fstat(descriptor).st_nlink:
                attachment.close()
                raise failure(errno.EIDRM)
        finally:
            os.close(descriptor)
        return attachment

    @staticmethod
    def shmdt(attachment: Attached | int) -> None:
        """Detach what `shmat` has returned, or what it attached at an address.

        Raises:
            OSError: EINVAL, nothing is attached there.
            BufferError: an array or a memoryview still uses its memory.
        """
        detach(attachment)

    @overload
    def shmctl(self, shmid: int, cmd: Literal[2, 13], buf: None = None) -> ShmidDs: ...
    @overload
    def shmctl(self, shmid: int, cmd: Literal[3], buf: None = None) -> Shminfo: ...
    @overload
    def shmctl(self, shmid: int, cmd: Literal[14], buf: None = None) -> ShmInfo: ...
    @overload
    def shmctl(
        self, shmid: int, cmd: int, buf: ShmidDs | None = None
    ) -> ShmidDs | Shminfo | ShmInfo | None: ...
    def shmctl(
        self, shmid: int, cmd: int, buf: ShmidDs | None = None
    ) -> ShmidDs | Shminfo | ShmInfo | None:
        """Ask or tell about the segment ``shmid``.

        ============  =========================================================================
        IPC_STAT      its `ShmidDs`
        IPC_SET       takes over ``uid``, ``gid`` and ``mode`` of ``buf.shm_perm``; to give it to
                      another user takes what chown(2) does
        IPC_RMID      removes it: its key is free, and it goes with the last attachment
        SHM_LOCK      brings it into core and keeps it there, until SHM_UNLOCK
        SHM_STAT      the `ShmidDs` of the segment with an index, instead of an id
        IPC_INFO      the limits
        SHM_INFO      what all segments take
        ============  =========================================================================

        Raises:
            OSError: EINVAL, no such segment or command; EACCES, it may not be read; EPERM, it is
                another user's; ENOMEM, that much cannot be locked.
        """
        with self.registry() as registry:
            if cmd == IPC_INFO:
                return told(registry, self._limits(registry))
            if cmd == SHM_INFO:
                return totals(registry)
            if cmd == SHM_STAT:
                ids = sorted(registry.listing().ids)
                if not 0 <= shmid < len(ids):
                    raise failure(errno.EINVAL)
                shmid, cmd = ids[shmid], IPC_STAT
            with found(registry, shmid) as segment:
                return control(registry, segment, cmd, buf)

    def segments(self) -> list[SegmentView]:
        """All segments, by id, and what may be known of each."""
        with self.registry() as registry:
            return views(registry)

    def remove_key(self, key: int) -> None:
        """Remove the segment that has ``key``, or free the key, if nothing else is left of it.

        Raises OSError: ENOENT, it is free; EPERM, it is another user's.
        """
        try:
            self.shmctl(self.shmget(key, 0), IPC_RMID)
        except OSError as error:
            if error.errno != errno.EIDRM:
                raise
            with self.registry() as registry:
                registry.remove_key(_unsigned(key))

    @contextlib.contextmanager
    def registry(self) -> Iterator[Registry]:
        """The names of the mount, for the time of a call: nothing keeps it from being unmounted.

        Raises OSError: of the body, without the names of files that nobody has asked for.
        """
        try:
            directory = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if os.fstat(directory).st_dev != self._device:
                    raise NoMountError(f"{self.root} is no longer the anonfs that it was")
                yield Registry(directory)
            finally:
                os.close(directory)
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                raise DaemonGoneError.at(self.root) from error
            if error.filename is None:
                raise
            raise OSError(error.errno, error.strerror) from error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {str(self.root)!r}>"


def _unsigned(key: int) -> int:
    """The key_t ``key`` without its sign. Raises OSError: EINVAL, it is none."""
    if not -(1 << 31) <= key < 1 << 32:
        raise failure(errno.EINVAL)
    return key % (1 << 32)


def _address(shmaddr: int | None, shmflg: int) -> int:
    """Where to attach, 0 for wherever there is room. Raises OSError: EINVAL."""
    address = shmaddr or 0
    off = address % SHMLBA
    if off and shmflg & SHM_RND:
        address -= off
    elif off:
        raise failure(errno.EINVAL)
    if address < 0 or address >= 1 << 63 or (not address and (shmaddr or shmflg & SHM_REMAP)):
        raise failure(errno.EINVAL)
    return address


def _require_usable(status: os.stat_result, size: int, shmflg: int) -> None:
    if shmflg & IPC_CREAT and shmflg & IPC_EXCL:
        raise failure(errno.EEXIST)
    if size > status.st_size:
        raise failure(errno.EINVAL)
    if not permits(status, shmflg & PERMISSIONS):
        raise failure(errno.EACCES)
