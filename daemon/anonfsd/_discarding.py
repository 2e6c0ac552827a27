"""Discarding: an overlay loses all that was written to it, and shows its front again.

While it does, nobody can store to it or see the pages of before: see `Standstill`. It is asked for
at the socket, and not by an attribute: the kernel would hold the lock of the inode meanwhile.
"""

import errno
from contextlib import ExitStack

import trio

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo
from anonfs.vfs import Inode
from anonfsd._cloning import Cloning
from anonfsd._engine_lock import EngineLock
from anonfsd._fronts import Fronts
from anonfsd._inode_lock import InodeLock
from anonfsd._stopping import Stopping

__all__ = ["Discarding"]


class Discarding:
    """Discards, in turn with ``cloning``, which brings inodes to a standstill as well."""

    def __init__(
        self,
        fronts: Fronts,
        lock: EngineLock,
        stopping: Stopping,
        inode_lock: InodeLock,
        cloning: Cloning,
    ) -> None:
        self._fronts = fronts
        self._lock = lock
        self._stopping = stopping
        self._inode_lock = inode_lock
        self._cloning = cloning

    async def discard(self, descriptor: int, uid: int) -> None:
        """Have the file behind ``descriptor``, of user ``uid``, be what it was when it was made.

        Raises OSError: EBADF, it is not open to write; EXDEV, it is of another mount; EINVAL, it is
        no overlay; EBUSY, it does not come to a standstill; and those of `anonfs.vfs.discard`.
        """
        await trio.to_thread.run_sync(self._discard, descriptor, uid, limiter=self._cloning.limiter)

    def _discard(self, descriptor: int, uid: int) -> None:
        try:
            inode = self._fronts.file(descriptor)
            if inode.info is None or inode.info.front is None:
                raise AnonfsError(errno.EINVAL, "not an overlay")
            self._discard_stopped(inode, inode.info)
        finally:
            with self._lock:
                self._fronts.discard(descriptor, uid)

    def _discard_stopped(self, inode: Inode, info: AnonInodeInfo) -> None:
        with self._lock:
            self._cloning.take(inode)
        try:
            with ExitStack() as stopped:
                with self._inode_lock.held(inode.ino):
                    stopped.enter_context(self._stopping.stopped(info))
                self._stopping.settle(info)
                with self._lock:
                    self._fronts.restore(inode)
                self._fronts.forget_attributes(inode.ino)
        finally:
            with self._lock:
                self._cloning.let_go()
