"""Inodes as the kernel wants to hear of them.

The kernel caches names and attributes: nothing changes them but its own requests, after which it
asks anew where it has to. That holds for a mapping's stores, too, once they are written back. Where
the daemon changes an inode by itself it says so, see `Unloading.forget_attributes`. That would come
too late for a file that goes by itself (`Reaping`): who opens it by a name that the kernel still
has is to see that it has none. What says so is an extended attribute, so of files with any the
kernel keeps no attributes.
"""

from pyfuse3 import EntryAttributes, InodeT, ModeT

from anonfs.units import PAGE_SIZE
from anonfs.vfs import Inode

__all__ = ["attributes"]

_CACHED = 300.0
_SECTORS_PER_PAGE = PAGE_SIZE // 512


def attributes(inode: Inode) -> EntryAttributes:
    """What stat(2) shows of ``inode``."""
    entry = EntryAttributes()
    entry.st_ino = InodeT(inode.ino)
    entry.generation = 0
    entry.entry_timeout = _CACHED
    entry.attr_timeout = 0 if inode.is_regular and inode.xattrs else _CACHED
    entry.st_mode = ModeT(inode.mode)
    entry.st_nlink = inode.nlink
    entry.st_uid = inode.uid
    entry.st_gid = inode.gid
    entry.st_rdev = inode.rdev
    entry.st_size = inode.size
    entry.st_blksize = PAGE_SIZE
    entry.st_blocks = inode.allocated * _SECTORS_PER_PAGE
    entry.st_atime_ns = inode.atime
    entry.st_mtime_ns = inode.mtime
    entry.st_ctime_ns = inode.ctime
    return entry
