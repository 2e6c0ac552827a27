"""Inodes, dentries, directories, attributes: a POSIX file system in memory, with no mount.

It knows the engine below it and no process: who maps an inode is the business of ``vm``, for which
each inode heads a share ring.
"""

from anonfs.vfs._cloning import check_empty, clone, clone_into
from anonfs.vfs._dentry import Dentry, DentryOperations
from anonfs.vfs._departing import Departing
from anonfs.vfs._directory import NAME_MAX
from anonfs.vfs._filesystem import ROOT, FileSystem, NewInode
from anonfs.vfs._inode import NEVER_ATTACHED, Inode, LastAttaches
from anonfs.vfs._list import ListHead, ListLink
from anonfs.vfs._overlays import change_front, discard, overlay
from anonfs.vfs._paths import path_of
from anonfs.vfs._quotas import Quotas
from anonfs.vfs._renaming import exchange, rename

__all__ = [
    "NAME_MAX",
    "NEVER_ATTACHED",
    "ROOT",
    "Dentry",
    "DentryOperations",
    "Departing",
    "FileSystem",
    "Inode",
    "LastAttaches",
    "ListHead",
    "ListLink",
    "NewInode",
    "Quotas",
    "change_front",
    "check_empty",
    "clone",
    "clone_into",
    "discard",
    "exchange",
    "overlay",
    "path_of",
    "rename",
]
