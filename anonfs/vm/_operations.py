"""VmOperations: what happens to an inode as areas of it come and go.

After the kernel's vm_operations_struct, with the ``dup`` that the seed adds to it. Whoever learns
of a mapping calls them, each area having one ``open`` or ``dup`` at its beginning and one
``close`` at its end::

    mmap ──────────▶ open ──┐
    fork ──────────▶ dup  ──┼──▶ in the ring, one reference ──▶ close ──▶ neither
    split ─────────▶ open ──┘                                   (munmap, exec, exit)

Operations must not know who reports to them: a look at /proc or the kernel's own events. They are
synchronous, and are called from one thread.
"""

from typing import Protocol

from anonfs.errors import InvariantError
from anonfs.vm._area import VmArea
from anonfs.vm._ring import ShareRing

__all__ = ["SharedOperations", "VmOperations"]


class VmOperations(Protocol):
    """The life of an area. ``open`` and ``dup`` put it in its inode's ring, ``close`` ends it."""

    def open(self, area: VmArea) -> None:
        """``area`` is new: from mmap, or the far part of an area that was split."""

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        """A fork gave ``child_area`` to the child of the process that has ``parent_area``."""

    def close(self, area: VmArea) -> None:
        """``area`` is gone; it will not be used again."""


class SharedOperations:
    """The operations of shared areas: each area is in the ring and holds one dentry reference.

    A private mapping of the inode has the same ones, since it too reads the inode's pages.
    """

    def open(self, area: VmArea) -> None:
        """Link ``area`` and take its reference."""
        ShareRing(area.inode).insert(area)
        area.inode.dentry.get()

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        """Link the child's area and take its reference: sharing is no more than that."""
        if child_area.inode is not parent_area.inode:
            raise InvariantError(f"{child_area!r} left the inode of {parent_area!r}")
        self.open(child_area)

    def close(self, area: VmArea) -> None:
        """Unlink ``area`` and drop its reference; the last one deletes the inode."""
        # The delete must find the ring without this area, so the reference goes last.
        ShareRing(area.inode).remove(area)
        area.inode.dentry.put()
