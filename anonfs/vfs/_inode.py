"""Inodes: a record of the image, and what is derived beside it.

The attributes are not copied: reading ``inode.size`` reads the word of the record. What the image
does not hold is rebuilt from it or known only while the mount lives: opens, lookups, the ring.
"""

import stat
from typing import overload

from anonfs.errors import require
from anonfs.mm import AnonInodeInfo, Image
from anonfs.units import Ino
from anonfs.vfs._dentry import Dentry, DentryOperations
from anonfs.vfs._directory import Directory
from anonfs.vfs._list import ListHead

__all__ = ["NEVER_ATTACHED", "Inode", "LastAttaches"]

LastAttaches = tuple[int | None, float, float]
"""A process that mapped or unmapped an inode, None where it is not known, and when the last area
of it began and ended, in seconds since the epoch. A plain tuple: a fork makes one for each area."""

NEVER_ATTACHED: LastAttaches = 0, 0.0, 0.0


class _Word:
    """A 64-bit word of the inode's record."""

    def __init__(self, index: int) -> None:
        self._index = index

    @overload
    def __get__(self, inode: None, owner: type) -> "_Word": ...
    @overload
    def __get__(self, inode: "Inode", owner: type) -> int: ...
    def __get__(self, inode: "Inode | None", owner: type) -> "int | _Word":
        if inode is None:
            return self
        return inode.words[inode.base + self._index]

    def __set__(self, inode: "Inode", value: int) -> None:
        inode.words[inode.base + self._index] = value


class Inode:
    """An inode of the mount.

    Sizes are bytes, times nanoseconds since the epoch, ``target`` and ``xattrs`` blobs. ``opens``
    counts open file descriptions, ``lookups`` the kernel's references that FORGET will return.
    ``promised`` pages have a place for certain, ``charged`` ones count for its owner, and
    ``writes`` are under way; while it is ``locked`` its pages stay in core: see `Promising`.
    ``place`` is where it was last given a name, for `path_of`.
    ``was_mapped`` says that one of the opens had a mapping for certain, see `Reaping`.
    ``attaches`` is of the areas, see `LastAttaches`.
    ``parent`` is the inode that it was copied from, while there is that, or 0; ``copies`` are
    those of which it is the parent, see `clone`. ``is_private`` says that it is, or is to be, of
    one process alone, ``is_frozen`` that nothing is ever stored to it: see `clone_into`.
    """

    __slots__ = (
        "attaches",
        "base",
        "charged",
        "copies",
        "dentry",
        "directory",
        "info",
        "ino",
        "lookups",
        "opens",
        "place",
        "promised",
        "share_ring",
        "was_mapped",
        "words",
        "writes",
    )

    mode = _Word(0)
    uid = _Word(1)
    gid = _Word(2)
    nlink = _Word(3)
    size = _Word(4)
    atime = _Word(5)
    mtime = _Word(6)
    ctime = _Word(7)
    rdev = _Word(8)
    target = _Word(9)
    xattrs = _Word(10)
    parent = _Word(11)
    locked = _Word(12)
    is_private = _Word(13)
    is_frozen = _Word(14)

    def __init__(self, image: Image, ino: Ino, operations: DentryOperations) -> None:
        self.ino = ino
        self.words = image.inodes.words
        self.base = ino * image.inodes.width
        self.dentry = Dentry(self, operations)
        self.share_ring = ListHead()
        self.info: AnonInodeInfo | None = None
        self.directory: Directory | None = None
        self.opens = 0
        self.lookups = 0
        self.place: tuple[Ino, bytes] | None = None
        self.promised = 0
        self.charged = 0
        self.writes = 0
        self.was_mapped = False
        self.attaches = NEVER_ATTACHED
        self.copies: set[Inode] | None = None

    @property
    def is_regular(self) -> bool:
        """Whether it is a file with pages."""
        return stat.S_ISREG(self.mode)

    @property
    def names(self) -> int:
        """How many names refer to it."""
        return min(self.nlink, 1) if self.directory is not None else self.nlink

    @property
    def allocated(self) -> int:
        """The pages that exist, in core or on swap."""
        return self.info.allocated if self.info is not None else 0

    def touch(self, now: int) -> None:
        """Its contents changed."""
        self.mtime = now
        self.ctime = now

    def check_invariants(self, areas: int) -> None:
        """The references are those that can be counted, with ``areas`` vm areas."""
        known = self.names + self.opens + areas + (self.lookups > 0)
        require(
            self.dentry.count == known,
            f"inode {self.ino}: {self.dentry.count} references, {known} known",
        )
        require((self.directory is not None) == stat.S_ISDIR(self.mode), "a directory of files")
        engine = self.info is not None and self.info.locked
        require(bool(self.locked) == engine, "the engine disagrees about a lock")
        require((self.info is not None) == self.is_regular, "pages of what is no file")
