"""MappedInode: the little that the vm floor needs of an inode.

The inode itself belongs to the vfs floor. These Protocols are where the two meet: what an inode
holds in its pages, who may open it and what happens at its end is no business of this floor.
"""

from typing import Protocol

from anonfs.units import Ino
from anonfs.vfs import ListHead

__all__ = ["MappedDentry", "MappedInode"]


class MappedDentry(Protocol):
    """The reference count of an inode. The delete at the last ``put`` is its own affair."""

    def get(self) -> None:
        """Take one reference."""

    def put(self) -> None:
        """Give one reference back."""

    def unmapped(self, group: int) -> None:
        """An area of a process of that process group has left the ring; before its `put`."""


class MappedInode(Protocol):
    """An inode that areas can map."""

    @property
    def ino(self) -> Ino:
        """Its number, as /proc/PID/maps shows it."""

    @property
    def share_ring(self) -> ListHead:
        """The head of the ring of the areas that map it."""

    @property
    def dentry(self) -> MappedDentry:
        """Where its references are counted: one for each area."""
