"""MappedInode: the little that the vm floor needs of an inode.

The inode itself belongs to the vfs floor. These Protocols are where the two meet: what an inode
holds in its pages, who may open it and what happens at its end is no business of this floor.
"""

from typing import Protocol

from anonfs.units import Ino
from anonfs.vfs import LastAttaches, ListHead

__all__ = ["MappedDentry", "MappedInode", "is_dup"]


class MappedDentry(Protocol):
    """The reference count of an inode. The delete at the last ``put`` is its own affair."""

    def get(self, times: int = 1) -> None:
        """Take one reference, or so many."""

    def put(self, times: int = 1) -> None:
        """Give one reference back, or so many."""

    def unmapped(self, group: int) -> None:
        """Areas of a process of that process group have left the ring; before their `put`."""


class MappedInode(Protocol):
    """An inode that areas can map."""

    attaches: LastAttaches
    """Who mapped or unmapped it last, and when."""

    @property
    def ino(self) -> Ino:
        """Its number, as /proc/PID/maps shows it."""

    @property
    def parent(self) -> int:
        """The number of the inode that it was copied from, while there is that; else 0."""

    @property
    def is_private(self) -> int:
        """Whether it is of one process alone: a child gets a copy of it, and not the area."""

    @property
    def share_ring(self) -> ListHead:
        """The head of the ring of the areas that map it."""

    @property
    def dentry(self) -> MappedDentry:
        """Where its references are counted: one for each area."""


def is_dup(inode: MappedInode, original: MappedInode) -> bool:
    """Whether ``inode`` was copied from ``original`` for a child of the process that maps that."""
    return bool(inode.is_private) and inode.parent == original.ino
