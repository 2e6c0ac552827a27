"""VmOperations: what happens to an inode as areas of it come and go.

After the kernel's vm_operations_struct, with the ``dup`` that the seed adds to it. Whoever learns
of a mapping calls them, each area having one ``open`` or ``dup`` at its beginning and one
``close`` at its end::

    mmap ──────────▶ open ──┐
    fork ──────────▶ dup  ──┼──▶ in the ring, one reference ──▶ close ──▶ neither
    split ─────────▶ open ──┘                                   (munmap, exec, exit)

``fault`` and ``swapout`` tell of pages, where the kernel's have one call for each: whoever answers
a fault or empties frames has done the work, so nothing is left to do but to tell of it. They are
called as often as the disk or the kernel asks, by callers that ask `EventLog.wanted` first.

Operations must not know who reports to them: a look at /proc or the kernel's own events. They are
synchronous, and are called with the lock of the engine held.
"""

from typing import Protocol

from anonfs.errors import InvariantError
from anonfs.units import PAGE_SIZE
from anonfs.vm._area import VmArea
from anonfs.vm._event_log import EventLog, Happening
from anonfs.vm._mapped_inode import MappedInode
from anonfs.vm._ring import ShareRing

__all__ = ["SharedOperations", "ToldOperations", "VmOperations"]


class VmOperations(Protocol):
    """The life of an area. ``open`` and ``dup`` put it in its inode's ring, ``close`` ends it."""

    def open(self, area: VmArea) -> None:
        """``area`` is new: from mmap, or the far part of an area that was split."""

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        """A fork gave ``child_area`` to the child of the process that has ``parent_area``."""

    def close(self, area: VmArea) -> None:
        """``area`` is gone; it will not be used again."""

    def fault(self, inode: MappedInode, first: int, count: int) -> None:
        """``count`` pages from page ``first`` were handed out to be mapped."""

    def swapout(self, inode: MappedInode, first: int, count: int) -> None:
        """``count`` pages from page ``first`` have left core for swap."""


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
        area.inode.dentry.unmapped(area.group)
        area.inode.dentry.put()

    def fault(self, inode: MappedInode, first: int, count: int) -> None:
        """Nothing: the page cache has the pages, for all areas alike."""

    def swapout(self, inode: MappedInode, first: int, count: int) -> None:
        """Nothing: no area has a PTE of its own to keep in step."""


class ToldOperations(SharedOperations):
    """The same, told to ``log`` as it happens; and the `delete` of a dentry, which is told here.

    A close is told before the delete that it may cause, as the kernel calls them. Whether anybody
    wants to be told of a `fault` or a `swapout` is to be asked of ``log`` before either.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log

    def open(self, area: VmArea) -> None:
        """Link ``area``, and tell."""
        super().open(area)
        self._tell("open", area)

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        """Link the child's area, and tell of both processes."""
        if child_area.inode is not parent_area.inode:
            raise InvariantError(f"{child_area!r} left the inode of {parent_area!r}")
        super().open(child_area)
        self._tell("dup", child_area, parent_area.pid)

    def close(self, area: VmArea) -> None:
        """Tell, and unlink ``area``."""
        self._tell("close", area)
        super().close(area)

    def fault(self, inode: MappedInode, first: int, count: int) -> None:
        """Tell."""
        self._tell_pages("fault", inode, first, count)

    def swapout(self, inode: MappedInode, first: int, count: int) -> None:
        """Tell."""
        self._tell_pages("swapout", inode, first, count)

    def delete(self, inode: MappedInode) -> None:
        """The dentry of ``inode`` calls its delete operation: tell."""
        self.log.note(Happening("delete", inode, self.log.now()))

    def _tell(self, event: str, area: VmArea, parent: int | None = None) -> None:
        log, start, end = self.log, area.start, area.end
        place = start, end, area.offset, (end - start) // PAGE_SIZE
        log.note(Happening(event, area.inode, log.now(), area.uid, area.pid, parent, *place))

    def _tell_pages(self, event: str, inode: MappedInode, first: int, count: int) -> None:
        if self.log.wanted:
            now = self.log.now()
            self.log.tell(Happening(event, inode, now, offset=first * PAGE_SIZE, pages=count))
