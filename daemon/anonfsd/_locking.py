"""Locking: the pages of an inode are to stay in core, and those on swap come in first.

So whoever asks for it may wait for swap, and for frames of others to go there; see `Promising` for
what can be locked at all.
"""

from collections.abc import Callable

from anonfs.mm import AnonInodeInfo, PageLoad, Work
from anonfs.vfs import FileSystem, Inode
from anonfsd._engine_lock import EngineLock
from anonfsd._reclaim import Reclaim

__all__ = ["Locking"]


class Locking:
    """Locks inodes of ``filesystem``; ``perform`` does work with the lock held, and tells of it."""

    def __init__(
        self,
        filesystem: FileSystem,
        lock: EngineLock,
        reclaim: Reclaim,
        perform: Callable[[Work], None],
    ) -> None:
        self._memory = filesystem.memory
        self._promising = filesystem.promising
        self._lock = lock
        self._reclaim = reclaim
        self._perform = perform

    def lock(self, inode: Inode) -> None:
        """Have all pages of ``inode`` in core, and keep them there; for a thread.

        Raises OSError: ENOMEM, not as many can be locked; EIO, a page cannot be brought in, and
            none is locked then.
        """
        with self._lock:
            self._promising.lock(inode)
            try:
                if inode.info is not None:
                    self._bring_in(inode.info)
            except BaseException:
                self._promising.unlock(inode)
                raise

    def _bring_in(self, info: AnonInodeInfo) -> None:
        first = 0
        while pages := self._memory.pages_to_bring_in(info, first):
            if len(pages) > self._memory.frames.free:
                self._reclaim.make_room(len(pages))
            else:
                self._perform(PageLoad(self._memory, info, pages))
            first = pages[0]
