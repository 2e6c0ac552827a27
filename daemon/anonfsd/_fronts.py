"""Fronts: files that others have handed over, to be read under overlays.

What is kept is the open file description. So a name that goes, or comes to be another file's, does
not matter; what is written to the file shows where it was not read yet.

To close one may take for ever, as may all that is done with a file of FUSE, so each user's are
closed by a thread of its own.
"""

import errno
import fcntl
import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from anonfs.errors import AnonfsError
from anonfs.vfs import FileSystem, Inode, change_front, discard, overlay
from anonfsd._closer import Closer
from anonfsd._engine_lock import EngineLock

__all__ = ["FrontFile", "Fronts"]

_PER_USER = 256
_COMMITTED_PER_USER = 2 * _PER_USER
_DISCARDED = 16


class FrontFile:
    """The regular file behind ``descriptor``, of user ``domain``. See `FrontStore`."""

    def __init__(self, descriptor: int, domain: int, fronts: "Fronts") -> None:
        self.domain = domain
        status = os.fstat(descriptor)
        self.size = status.st_size
        self.device = status.st_dev
        self.ino = status.st_ino
        self.mode = status.st_mode
        self._descriptor = descriptor
        self._fronts = fronts

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read what there is, and wait for it. Raises OSError."""
        return os.preadv(self._descriptor, [buffer], offset)

    def read_at_once(self, buffer: memoryview, offset: int) -> int:
        """Read what is in the page cache. Raises OSError: nothing is, or there is no telling."""
        return os.preadv(self._descriptor, [buffer], offset, os.RWF_NOWAIT)

    @property
    def path(self) -> str:
        """What the kernel calls it now, as the daemon would: `` (deleted)`` is at the end then."""
        return str(Path(f"/proc/self/fd/{self._descriptor}").readlink())

    def close(self) -> None:
        """Have it closed, by another thread."""
        self._fronts.closed(self._descriptor, self.domain)


class Handed(NamedTuple):
    """What came with a request: the file that is to be an overlay, and the one under it.

    Or the overlay that was committed, its copy of that moment, and what it was committed to.
    """

    file: int
    front: int
    moment: int | None = None

    @property
    def files(self) -> list[int]:
        """Those that are to be of the mount."""
        return [self.file] if self.moment is None else [self.file, self.moment]


class Fronts:
    """Makes overlays of files of the mount with that ``device`` number.

    ``forget_attributes`` has the kernel forget those of an inode, see `Unloading`.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        lock: EngineLock,
        device: tuple[int, int],
        forget_attributes: Callable[[int], None],
    ) -> None:
        self._filesystem = filesystem
        self.forget_attributes = forget_attributes
        self._lock = lock
        self._device = os.makedev(*device)
        self._own_closer = Closer("overlays-closer")
        self._closers: dict[tuple[str, int], Closer] = {}
        self._per_user: Counter[int] = Counter()

    def start(self) -> None:
        """Start the thread that closes files of this mount, which ends with the process."""
        self._own_closer.start()

    def discard(self, descriptor: int, uid: int) -> None:
        """Close what that user sent in vain, by another thread: it may be any file."""
        self._closer_of("discarded", uid).close(descriptor, uid)

    def is_discarding(self, uid: int) -> bool:
        """Whether so much that the user sent waits to be closed that no more is to be taken."""
        return self._closer_of("discarded", uid).waiting[uid] >= _DISCARDED

    def closed(self, descriptor: int, uid: int) -> None:
        """A front of that user is not needed any more."""
        self._per_user[uid] -= 1
        self._closer_of("fronts", uid).close(descriptor, uid)

    def _closer_of(self, what: str, uid: int) -> Closer:
        """The thread that closes such files of a user; with the lock held, as its callers are."""
        closer = self._closers.get((what, uid))
        if closer is None:
            closer = self._closers[what, uid] = Closer(f"{what}-{uid}")
            closer.start()
        return closer

    def overlay(self, handed: Handed, uid: int) -> None:
        """Make an overlay of what user ``uid`` has ``handed`` over; for a thread.

        That they could open both files is proven by their having them open.

        Raises:
            AnonfsError: EBADF, one is not open for what is to be done with it; EISDIR, EINVAL, the
                front is no regular file; ELOOP, it is of this mount; EXDEV, the file is not;
                EMFILE, the user has too many; and those of `anonfs.vfs.overlay`.
        """

        def put(front: FrontFile, inode: Inode) -> None:
            overlay(self._filesystem, inode, front, front.size)

        self._put_over(handed, uid, put, _PER_USER)

    def commit(self, handed: Handed, uid: int) -> None:
        """Let an overlay be one over what it was committed to; for a thread.

        Raises AnonfsError: as `overlay`, and those of `anonfs.vfs.change_front`.
        """

        def put(front: FrontFile, inode: Inode, moment: Inode) -> None:
            change_front(self._filesystem, inode, moment, front, front.size)

        # The old front stays where copies are over it, so it is no exchange of one for another.
        self._put_over(handed, uid, put, _COMMITTED_PER_USER)

    def _put_over(self, handed: Handed, uid: int, put: Callable[..., None], most: int) -> None:
        """Have the files put over a front with the lock held, and see to the descriptors."""
        own: list[int] = []
        inodes: list[Inode] = []
        kept = False
        try:
            for descriptor in handed.files:
                inodes.append(self.file(descriptor))
                own.append(descriptor)
            front = self._front(handed.front, uid)
            with self._lock:
                if uid and self._per_user[uid] >= most:
                    raise AnonfsError(errno.EMFILE, f"user {uid} has {most} overlays")
                put(front, *inodes)
                kept = True
                self._per_user[uid] += 1
        finally:
            with self._lock:
                for descriptor in handed.files:
                    close = self._own_closer.close if descriptor in own else self.discard
                    close(descriptor, uid)
                if not kept:
                    self.discard(handed.front, uid)
        for inode in inodes:
            self.forget_attributes(inode.ino)

    def _front(self, descriptor: int, uid: int) -> FrontFile:
        _require_access(descriptor, os.O_WRONLY)
        front = FrontFile(descriptor, uid, self)
        if stat.S_ISDIR(front.mode):
            raise AnonfsError(errno.EISDIR)
        if not stat.S_ISREG(front.mode):
            raise AnonfsError(errno.EINVAL, "not a regular file")
        if front.device == self._device:
            raise AnonfsError(errno.ELOOP, "a file of the same mount")
        return front

    def file(self, descriptor: int) -> Inode:
        """The file of this mount that somebody has open to write; for a thread.

        Raises AnonfsError: EBADF, EXDEV, they have not.
        """
        _require_access(descriptor, os.O_RDONLY)
        status = os.fstat(descriptor)
        if status.st_dev != self._device:
            raise AnonfsError(errno.EXDEV)
        with self._lock:
            return self._filesystem.inode(status.st_ino)

    def restore(self, inode: Inode) -> None:
        """Let ``inode`` show nothing but its front, with the lock held; as `anonfs.vfs.discard`."""
        discard(self._filesystem, inode)


def _require_access(descriptor: int, wrong: int) -> None:
    """Whether ``descriptor`` is open, and not for the ``wrong`` access alone."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE == wrong:
        raise AnonfsError(errno.EBADF)
