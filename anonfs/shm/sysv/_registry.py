"""The registry: the root of a mount as the table of its segments, which every process sees.

There is nothing but names. Each is made, moved or taken away by one system call that either
happens or does not, so there is no lock that a dead process could leave behind, and no state
between two calls that is not one of these::

    .sysv.7               the segment 7
    .sysv.0x00001234      the same file: it has this key
    .sysv.7.dest          instead of .sysv.7: it was removed, and goes with its last attachment

    shmget    O_EXCL .sysv.7 ──▶ size, attribute, mode ──▶ link to .sysv.0x00001234
    IPC_RMID  unlink .sysv.0x00001234 ──▶ reap=last-area ──▶ rename to .sysv.7.dest
                                                             ──▶ unlink, if nobody is attached

Of processes that make a segment for one key, the one whose link(2) comes first has made it, and
the others take theirs back. Whoever is killed between two steps leaves a segment without a key, or
without a size, that `anonfs ipcs` lists and `anonfs ipcrm` removes.

Why the root, and no directory in it: the root of a mount that is open to others is sticky and
belongs to who made the mount. Of a directory, the user who happens to make it first would be the
owner, and could take away everybody's segments. Here nobody can but a segment's owner, root and
who made the mount, and a user who puts something else in the place of a key has done what any
user may do: taken a key that is free. An id is chosen at random among 2^31 and does not come back.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from anonfs.shm.sysv._failure import failure
from anonfs.shm.sysv._limits import Limits
from anonfs.shm.sysv._segment import Record, Segment

__all__ = ["IDS", "Listing", "Registry"]

IDS = 1 << 31
"""Ids are below it, and above 0."""

_NAME = re.compile(r"\.sysv\.(?:(0x[0-9a-f]{8})|([1-9]\d{0,9})(\.dest)?)")
_OWNER_RW = 0o600
_PATIENCE_SECONDS = 2.0
_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def _id_name(shmid: int) -> str:
    return f".sysv.{shmid}"


def _removed_name(shmid: int) -> str:
    return f".sysv.{shmid}.dest"


def _key_name(key: int) -> str:
    return f".sysv.{key:#010x}"


class Listing(NamedTuple):
    """What the registry has names of: their inode numbers."""

    ids: dict[int, int]
    """By the id of a segment, removed ones included."""
    keys: dict[int, int]
    """By key."""


class Registry:
    """The names in the directory that is open as ``directory``. Keys are without a sign."""

    def __init__(self, directory: int) -> None:
        self._directory = directory

    # -- finding ---------------------------------------------------------------------------

    def by_id(self, shmid: int) -> Segment | None:
        """The segment ``shmid``, to be used as a context manager; None if there is none."""
        for name, removed in ((_id_name(shmid), False), (_removed_name(shmid), True)):
            descriptor = self._pinned(name) if 0 < shmid < IDS else None
            if descriptor is not None:
                return Segment(descriptor, shmid, removed=removed)
        return None

    def by_key(self, key: int) -> Segment | None:
        """What has ``key``, with the id 0, to be used as a context manager; None if nothing has."""
        descriptor = self._pinned(_key_name(key))
        return None if descriptor is None else Segment(descriptor, 0, removed=False)

    def open(self, shmid: int, *, read_only: bool) -> int:
        """A descriptor of the segment ``shmid`` to map.

        Raises:
            OSError: EINVAL, there is none; EIDRM, it is removed; EACCES.
        """
        if not 0 < shmid < IDS:
            raise failure(errno.EINVAL)
        # A fifo in the place of a segment must not block.
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_NONBLOCK
        try:
            descriptor = self._open(_id_name(shmid), flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ESTALE}:
                raise
            removed = self._pinned(_removed_name(shmid))
            if removed is None:
                raise failure(errno.EINVAL) from None
            os.close(removed)
            raise failure(errno.EIDRM) from None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not status.st_nlink:
            os.close(descriptor)
            raise failure(errno.EINVAL)
        return descriptor

    def id_of_key(self, key: int) -> int | None:
        """The id of the segment that has ``key``; None if none has it.

        Raises OSError: EACCES, somebody has taken it for what can be no segment; EIDRM, what has
            it lost its id.
        """
        name = _key_name(key)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                status = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
            except FileNotFoundError:
                return None
            if not stat.S_ISREG(status.st_mode):
                raise failure(errno.EACCES)
            shmid = self._id_of_inode(status, key)
            if shmid is not None:
                return shmid
            # It is being removed, or the kernel has yet to hear that the daemon reaped it.
            if time.monotonic() > deadline:
                raise failure(errno.EIDRM)
            time.sleep(0.001)

    def _id_of_inode(self, status: os.stat_result, key: int) -> int | None:
        if not status.st_nlink:
            return None
        with contextlib.suppress(OSError):  # what may not be read has to be searched for
            segment = self.by_key(key)
            if segment is not None:
                with segment:
                    record = segment.record()
                if record is not None and self._is(_id_name(record.shmid), status.st_ino):
                    return record.shmid
        for shmid, ino in self.listing().ids.items():
            if ino == status.st_ino and self._is(_id_name(shmid), ino):
                return shmid
        return None

    def key_of(self, segment: Segment, record: Record | None) -> int:
        """The key of ``segment``, whose record this is; 0 if it has none."""
        if record is not None and self._is(_key_name(record.key), segment.status().st_ino):
            return record.key
        return 0

    def listing(self) -> Listing:
        """All names there are."""
        found = Listing({}, {})
        for match, ino in self._names():
            if match[1]:
                found.keys[int(match[1], 16)] = ino
            elif int(match[2]) < IDS:
                found.ids[int(match[2])] = ino
        return found

    def limits(self) -> Limits:
        """What the owner of the mount allows."""
        return Limits.of(self._directory)

    def _names(self) -> Iterator[tuple[re.Match[str], int]]:
        descriptor = self._open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    match = _NAME.fullmatch(entry.name)
                    if match:
                        yield match, entry.inode()
        finally:
            os.close(descriptor)

    # -- making ----------------------------------------------------------------------------

    def create(self, size: int, mode: int, key: int) -> int | None:
        """The id of a new segment; None if somebody else has made one for ``key`` meanwhile.

        Raises OSError: ENOSPC, EDQUOT; there is no segment then.
        """
        shmid, descriptor = self._new()
        record = Record(shmid, key, os.geteuid(), os.getegid(), os.getpid(), ctime=int(time.time()))
        try:
            with Segment(descriptor, shmid, removed=False) as segment:
                segment.set_mode(mode | _OWNER_RW)
                os.ftruncate(descriptor, size)
                segment.write_record(record)
                if mode & _OWNER_RW != _OWNER_RW:
                    segment.set_mode(mode)
            if not key or self._link(shmid, key):
                return shmid
        except BaseException:
            self._unlink(_id_name(shmid))
            raise
        self._unlink(_id_name(shmid))
        return None

    def _new(self) -> tuple[int, int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            shmid = secrets.randbelow(IDS - 1) + 1
            if self._inode_of(_removed_name(shmid)) is None:
                with contextlib.suppress(FileExistsError):
                    return shmid, self._open(_id_name(shmid), flags, _OWNER_RW)

    def _link(self, shmid: int, key: int) -> bool:
        try:
            os.link(
                _id_name(shmid),
                _key_name(key),
                src_dir_fd=self._directory,
                dst_dir_fd=self._directory,
                follow_symlinks=False,
            )
        except FileExistsError:
            return False
        return True

    # -- unmaking --------------------------------------------------------------------------

    def remove(self, segment: Segment) -> None:
        """Take away its key, and the segment once nobody is attached. Raises OSError: EPERM."""
        with segment.owned():
            if not segment.removed:
                self._unlink_key(segment)
                segment.go_with_last_area()
                with contextlib.suppress(FileNotFoundError):
                    os.rename(
                        _id_name(segment.shmid),
                        _removed_name(segment.shmid),
                        src_dir_fd=self._directory,
                        dst_dir_fd=self._directory,
                    )
            else:
                segment.go_with_last_area()
            if not segment.attaches().nattch:
                self._unlink(_removed_name(segment.shmid))

    def remove_key(self, key: int) -> None:
        """Take away a key, of whatever it is. Raises OSError: EPERM."""
        self._unlink(_key_name(key))

    def _unlink_key(self, segment: Segment) -> None:
        key = self.key_of(segment, segment.record())
        if key:
            self._unlink(_key_name(key))
        status = segment.status()
        if status.st_nlink > 1:  # somebody who may write to it has given it another name
            others = [match[0] for match, ino in self._names() if ino == status.st_ino]
            for name in others:
                if name != _id_name(segment.shmid):
                    self._unlink(name)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._directory)

    # -- names -----------------------------------------------------------------------------

    def _open(self, name: str, flags: int, mode: int = 0) -> int:
        return os.open(name, flags, mode, dir_fd=self._directory)

    def _pinned(self, name: str) -> int | None:
        """An O_PATH descriptor of the regular file ``name``; None if it is none."""
        try:
            descriptor = self._open(name, _PIN)
        except FileNotFoundError:
            return None
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink:
            return descriptor
        os.close(descriptor)
        return None

    def _is(self, name: str, ino: int) -> bool:
        return self._inode_of(name) == ino

    def _inode_of(self, name: str) -> int | None:
        try:
            return os.stat(name, dir_fd=self._directory, follow_symlinks=False).st_ino
        except FileNotFoundError:
            return None
