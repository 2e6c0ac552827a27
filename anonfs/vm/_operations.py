"""VmOperations: what happens to an inode as areas of it come and go.

After the kernel's vm_operations_struct, with the ``dup`` that the seed adds to it. Whoever learns
of a mapping calls them, each area having one ``open`` or ``dup`` at its beginning and one
``close`` at its end::

    mmap ──────────▶ open ──┐
    fork ──────────▶ dup  ──┼──▶ in the ring, one reference ──▶ close ──▶ neither
    split ─────────▶ open ──┘                                   (munmap, exec, exit)

A fork or an exit concerns all areas of a process, of which there may be 10,000: ``dup_all`` and
``close_all`` are as many calls in one, at a fifth of their price.

``fault`` and ``swapout`` tell of pages, where the kernel's have one call for each: whoever answers
a fault or empties frames has done the work, so nothing is left to do but to tell of it. They are
called as often as the disk or the kernel asks, by callers that ask `EventLog.wanted` first.

The inode remembers the last of them as System V does (ipc/shm.c, shm_open and shm_close): the time
of an open and of a close, and the process of either, which at a fork is the parent.

Operations must not know who reports to them: a look at /proc or the kernel's own events. They are
synchronous, and are called with the lock of the engine held.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from time import time
from typing import Protocol

from anonfs.errors import InvariantError
from anonfs.units import PAGE_SIZE
from anonfs.vm._area import VmArea
from anonfs.vm._event_log import EventLog, Happening
from anonfs.vm._mapped_inode import MappedInode, is_dup
from anonfs.vm._ring import ShareRing

__all__ = ["SharedOperations", "ToldOperations", "VmOperations"]


class VmOperations(Protocol):
    """The life of an area. ``open`` and ``dup`` put it in its inode's ring, ``close`` ends it."""

    def open(self, area: VmArea) -> None:
        """``area`` is new: from mmap, or the far part of an area that was split."""

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        """A fork gave ``child_area`` to the child of the process that has ``parent_area``.

        It is of the same inode; of a private one, of the copy that was made for the child.
        """

    def close(self, area: VmArea) -> None:
        """``area`` is gone; it will not be used again."""

    def dup_all(self, parent_areas: Sequence[VmArea], child_areas: Sequence[VmArea]) -> None:
        """`dup` for each of the areas of one process and that of its child, in order."""

    def close_all(self, areas: Sequence[VmArea]) -> None:
        """`close` for each of ``areas``, in order."""

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
        self._link((area,), area.pid)

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        """Link the child's area and take its reference: sharing is no more than that.

        Where the inode was copied, that was done before the fork, and is no affair of the area's.
        """
        self.dup_all((parent_area,), (child_area,))

    def close(self, area: VmArea) -> None:
        """Unlink ``area`` and drop its reference; the last one deletes the inode."""
        self.close_all((area,))

    def dup_all(self, parent_areas: Sequence[VmArea], child_areas: Sequence[VmArea]) -> None:
        """Link the child's areas and take their references."""
        for parent_area, child_area in zip(parent_areas, child_areas, strict=True):
            inode, original = child_area.inode, parent_area.inode
            if inode is not original and not is_dup(inode, original):
                raise InvariantError(f"{child_area!r} left the inode of {parent_area!r}")
        if parent_areas:
            self._link(child_areas, parent_areas[0].pid)

    def close_all(self, areas: Sequence[VmArea]) -> None:
        """Unlink ``areas`` and drop their references; the last one of an inode deletes it."""
        for (inode, group, pid), run in groupby(areas, key=attrgetter("inode", "group", "pid")):
            # The delete must find the ring without these areas, so the references go last.
            closed = ShareRing(inode).remove(run)
            inode.attaches = pid, inode.attaches[1], time()
            inode.dentry.unmapped(group)
            inode.dentry.put(closed)

    @staticmethod
    def _link(areas: Sequence[VmArea], pid: int | None) -> None:
        for inode, run in groupby(areas, key=attrgetter("inode")):
            inode.dentry.get(ShareRing(inode).insert(run))
            inode.attaches = pid, time(), inode.attaches[2]

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
        self._tell_all("open", (area,))

    def dup_all(self, parent_areas: Sequence[VmArea], child_areas: Sequence[VmArea]) -> None:
        """Link the child's areas, and tell of both processes."""
        super().dup_all(parent_areas, child_areas)
        if parent_areas:
            self._tell_all("dup", child_areas, parent_areas[0].pid)

    def close_all(self, areas: Sequence[VmArea]) -> None:
        """Tell, and unlink ``areas``."""
        self._tell_all("close", areas)
        super().close_all(areas)

    def fault(self, inode: MappedInode, first: int, count: int) -> None:
        """Tell."""
        self._tell_pages("fault", inode, first, count)

    def swapout(self, inode: MappedInode, first: int, count: int) -> None:
        """Tell."""
        self._tell_pages("swapout", inode, first, count)

    def delete(self, inode: MappedInode) -> None:
        """The dentry of ``inode`` calls its delete operation: tell."""
        self.log.note(Happening("delete", inode, self.log.now()))

    def _tell_all(self, event: str, areas: Sequence[VmArea], parent: int | None = None) -> None:
        log = self.log
        now = log.now()
        # Where nobody reads, what would be forgotten at once need not be told.
        for area in areas if log.wanted else areas[-log.remembers :]:
            start, end = area.start, area.end
            place = start, end, area.offset, (end - start) // PAGE_SIZE
            log.note(Happening(event, area.inode, now, area.uid, area.pid, parent, *place))

    def _tell_pages(self, event: str, inode: MappedInode, first: int, count: int) -> None:
        if self.log.wanted:
            now = self.log.now()
            self.log.tell(Happening(event, inode, now, offset=first * PAGE_SIZE, pages=count))
