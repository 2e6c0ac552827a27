"""Sizing: what makes files longer and shorter, and makes holes in them.

A size is what a file is promised, so to allocate is to grow, and nothing else is to be done. To cut
a file within a page that is on swap takes swap; for holes see `Punching`.
"""

import errno

from anonfs.errors import AnonfsError
from anonfs.mm import PageCut, cutting
from anonfs.vfs import FileSystem, Inode
from anonfsd._answers import Failing, errno_for
from anonfsd._engine_lock import EngineLock
from anonfsd._paging import Paging, Receiver

__all__ = ["Sizing"]

_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16  # FALLOC_FL_*


class Sizing:
    """Gives sizes to files of ``filesystem``; broken invariants are told to ``failing``."""

    def __init__(
        self, filesystem: FileSystem, lock: EngineLock, paging: Paging, failing: Failing
    ) -> None:
        self._filesystem = filesystem
        self._lock = lock
        self._paging = paging
        self._failing = failing

    # -- allocating ------------------------------------------------------------------------

    def allocate(self, ino: int, offset: int, size: int, mode: int, thread: Receiver) -> int:
        """Answer a FALLOCATE: have a file promised its pages, or have a hole made, or both.

        What is to be allocated beyond the end, or where a size is no promise, is EOPNOTSUPP;
        posix_fallocate(3) then writes to each page.
        """
        try:
            with self._lock:
                done = self._allocate(ino, offset, size, mode, thread)
            if done:
                thread.reply(b"")
        except Exception as error:  # noqa: BLE001  as in `read`
            return errno_for(self._failing, "allocate", error)
        return 0

    def _allocate(self, ino: int, offset: int, size: int, mode: int, thread: Receiver) -> bool:
        """Allocate, or have it answered later: then it is False."""
        inode, info = self._paging.pages_of(ino)
        end = offset + size
        self._filesystem.check_size(inode, end)
        if mode == _PUNCH_HOLE | _KEEP_SIZE:
            self._paging.punching.punch(inode, info, (offset, size), inode.size, thread.later())
            return False
        beyond = end > inode.size and mode & _KEEP_SIZE
        if mode & ~(_KEEP_SIZE | _ZERO_RANGE) or beyond or not self._filesystem.promising.by_size:
            raise AnonfsError(errno.EOPNOTSUPP)
        if mode & _ZERO_RANGE:
            self._paging.punching.punch(inode, info, (offset, size), end, thread.later())
            return False
        if end > inode.size:
            self._filesystem.truncate(inode, end)
        return True

    # -- truncating ------------------------------------------------------------------------

    def truncate_waiting(self, inode: Inode, size: int) -> None:
        """Give ``inode`` a size where that may need swap; for a thread, without the lock.

        Raises OSError.
        """
        with self._lock:
            while (cut := self._work_before_truncate(inode, size)) is not None:
                self._paging.perform(cut)
                if inode.info is not None and cutting.is_cut(inode.info, size, cut):
                    break
            self._filesystem.truncate(inode, size, cut)

    def truncate(self, inode: Inode, size: int) -> bool:
        """Give ``inode`` a size, with the lock held; False if that has to wait for swap.

        Raises AnonfsError.
        """
        cut = self._work_before_truncate(inode, size)
        if cut is not None:
            cut.abandon()
            return False
        self._filesystem.truncate(inode, size)
        return True

    def _work_before_truncate(self, inode: Inode, size: int) -> PageCut | None:
        self._filesystem.check_size(inode, size)
        if inode.info is None or size >= inode.size:
            return None
        return cutting.work_before_truncate(self._filesystem.memory, inode.info, size)
