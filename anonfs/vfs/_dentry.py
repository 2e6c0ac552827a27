"""Dentries: the seed's dummy dentry of an anonymous inode.

An inode has one, whether it has a name, several, or none. It counts references, and the last one
put calls the delete operation, which cleans up the inode's ``anon_inode_info``. Referring to it are

    each name          from link to unlink
    each open          from OPEN to RELEASE, which comes after the last mapping of it has gone
    each vm area       from ``vm_operations.open`` or ``dup`` to ``close``
    the kernel         one reference, while its caches hold the inode (LOOKUP to FORGET)

It differs from the kernel's dentry in that: a name there is a dentry of its own.
"""

from typing import TYPE_CHECKING, Protocol

from anonfs.errors import require

if TYPE_CHECKING:
    from anonfs.vfs._inode import Inode

__all__ = ["Dentry", "DentryOperations"]


class DentryOperations(Protocol):
    """What a dentry calls."""

    def delete(self, inode: "Inode") -> None:
        """The last reference to ``inode`` was put."""

    def unmapped(self, inode: "Inode", group: int) -> None:
        """Vm areas of ``inode`` were closed, of a process of that process group."""


class Dentry:
    """A counted reference to ``inode``; made with a count of zero, so `get` it first."""

    __slots__ = ("_inode", "_operations", "count")

    def __init__(self, inode: "Inode", operations: DentryOperations) -> None:
        self.count = 0
        self._inode = inode
        self._operations = operations

    def get(self, times: int = 1) -> None:
        """Take a reference, or so many."""
        self.count += times

    def put(self, times: int = 1) -> None:
        """Drop a reference, or so many; the last one deletes the inode."""
        require(self.count >= times, f"inode {self._inode.ino}: a reference was put twice")
        self.count -= times
        if self.count == 0:
            self._operations.delete(self._inode)

    def unmapped(self, group: int) -> None:
        """Vm areas that have a reference each, which is put next, have left the ring."""
        self._operations.unmapped(self._inode, group)
