"""Audience: who may read of what, in the stream of events.

=========================================  =====================================================
root and the mount's owner                 of everything
the owner of a process                     of its areas
the owner of a file                        of the file
others                                     of a file that all may read, in directories that all
                                           may search
=========================================  =====================================================

Addresses are for root and the owner of the process alone, as in the ring of a file. The groups of
a reader are not known, so what a file grants to its group is nobody's here. What happened before a
stream was opened is told to the first two alone: of an inode that is gone nobody can tell any more
whose business it was.
"""

import stat

from anonfs.vfs import FileSystem
from anonfs.vm import Happening, Sight
from anonfsd._reach import Reach

__all__ = ["Audience"]


class Audience:
    """The readers of a mount of ``filesystem``, which user ``owner`` has made."""

    def __init__(self, filesystem: FileSystem, owner: int) -> None:
        self._filesystem = filesystem
        self._reach = Reach(filesystem)
        self._trusted = {0, owner}

    def is_trusted(self, uid: int) -> bool:
        """Whether user ``uid`` may read of everything."""
        return uid in self._trusted

    def sight(self, uid: int, happening: Happening) -> Sight:
        """What user ``uid`` may see of something that happens just now."""
        own = uid == happening.uid
        if not (own or uid in self._trusted or self._is_theirs(uid, happening)):
            return Sight.NOTHING
        if own or uid == 0 or happening.uid is None:
            return Sight.ALL
        return Sight.WITHOUT_ADDRESSES

    def _is_theirs(self, uid: int, happening: Happening) -> bool:
        inode = self._filesystem.inodes.get(happening.inode.ino)
        if inode is None or inode is not happening.inode:
            return False  # gone, and its number may be another's by now
        if inode.uid == uid:
            return True
        return bool(inode.mode & stat.S_IROTH) and self._reach.includes(inode.ino)
