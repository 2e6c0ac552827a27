"""AddressSpaces: looks at processes, turned into the story that the kernel would have told.

A look (`ProcessMaps`) says which areas there are; `VmOperations` want to hear how they came and
went. What lies between two looks is told in the kernel's order:

1. a process whose pid now belongs to another one is closed;
2. new processes ``dup`` what their parents had before this look, parents before children: the fork
   may have come before whatever the parent did since;
3. known processes follow what was seen, new ones ``dup`` or ``open`` the rest;
4. what is gone is closed, last, so that an area handed on by a process that unmapped it, or that
   exited, never leaves its inode without a reference in between.

How one process follows what was seen:

==========================  ==========================  =====================================
seen                        told                        in the kernel
==========================  ==========================  =====================================
other ends, other perms     nothing: resized in place   vma_expand, vma_shrink, mprotect
a piece of an area          open                        __split_vma calls vm_ops->open
one area where two were     resize and close            vma_merge (of files without close)
an area moved               open, then close            copy_vma opens, the unmap closes
nothing where an area was   close                       remove_vma
==========================  ==========================  =====================================

Only a process that was not known before can ``dup``: a child is never visible before it has all
its areas. A later mapping may well lie where the parent has the same one, because a forked child
has the parent's address layout, and yet it is an mmap.

It must not know how the looks are made. Everything is synchronous and belongs to one thread; only
the looking may happen in another. A look that was made before an inode was dropped can bring its
areas back until the next look, if ``inode_of`` still knows the number.
"""

from collections.abc import Callable, Iterable

from anonfs.errors import require
from anonfs.units import Ino
from anonfs.vm._address_space import AddressSpace
from anonfs.vm._area import VmArea
from anonfs.vm._mapped_inode import MappedInode
from anonfs.vm._maps import MappedArea, ProcessMaps
from anonfs.vm._operations import VmOperations
from anonfs.vm._ring import ShareRing
from anonfs.vm._succession import covering, successions

__all__ = ["AddressSpaces"]


def _parents_first(seen: Iterable[ProcessMaps]) -> list[ProcessMaps]:
    """The processes by pid, but each after its parent; the last look at a pid counts."""
    by_pid = {process.pid: process for process in seen}
    ordered: dict[int, ProcessMaps] = {}
    for pid in sorted(by_pid):
        line: dict[int, ProcessMaps] = {}
        ancestor = pid
        # A pid reused in the middle of a look can make a circle, so line is looked at too.
        while ancestor in by_pid and ancestor not in ordered and ancestor not in line:
            line[ancestor] = by_pid[ancestor]
            ancestor = by_pid[ancestor].parent
        ordered.update(reversed(line.items()))
    return list(ordered.values())


class AddressSpaces:
    """The areas of all processes that were seen, each told to ``operations`` once.

    Args:
        operations: what is told.
        inode_of: the inode of a number, or None if there is none (any more); its areas are then
            left out, until a look finds the inode known.
    """

    def __init__(
        self, operations: VmOperations, inode_of: Callable[[Ino], MappedInode | None]
    ) -> None:
        self._operations = operations
        self._inode_of = inode_of
        self._spaces: dict[int, AddressSpace] = {}

    @property
    def pids(self) -> frozenset[int]:
        """The processes that have areas."""
        return frozenset(self._spaces)

    def has_areas(self, pid: int) -> bool:
        """Whether process ``pid`` has any."""
        return pid in self._spaces

    def update(self, seen: Iterable[ProcessMaps], *, complete: bool) -> None:
        """Bring the processes in ``seen`` to exactly what was seen.

        With ``complete``, all processes were looked at: those not in ``seen`` are gone.
        """
        look = _parents_first(seen)
        self._close_reused(look)
        new = {process.pid: AddressSpace(process) for process in look}
        for pid in self._spaces.keys() & new.keys():
            del new[pid]
        self._spaces.update(new)
        for process in look:
            if process.pid in new:
                self._inherit(process)
        vanished: list[VmArea] = []
        for process in look:
            if process.pid in new:
                self._inherit(process)
                self._open_rest(process)
            else:
                vanished += self._follow(process)
        if complete:
            vanished += self._forget_all_but({process.pid for process in look})
        self._forget_empty(look)
        for area in vanished:
            self._operations.close(area)

    def drop(self, inode: MappedInode) -> None:
        """Close every area of ``inode``: its last open file went, so no mapping is left."""
        # A list, for the last close may delete the inode and its ring with it.
        for area in list(ShareRing(inode)):
            space = self._spaces.get(area.pid)
            if space is not None and area in space:
                space.remove(area)
                if not space:
                    del self._spaces[area.pid]
            self._operations.close(area)

    def _close_reused(self, look: list[ProcessMaps]) -> None:
        for process in look:
            space = self._spaces.get(process.pid)
            if space is not None and not space.is_same_process(process):
                del self._spaces[process.pid]
                for area in space.areas:
                    self._operations.close(area)

    def _inherit(self, process: ProcessMaps) -> None:
        """Dup the areas of a new process that its parent has by now."""
        parent = self._spaces.get(process.parent)
        # A parent that started later got its pid from the real parent, while we looked.
        if parent is None or parent.start_time > process.start_time:
            return
        space = self._spaces[process.pid]
        missing = self._missing(process)
        if not missing:
            return
        for seen, parent_area in covering(parent.areas, missing):
            child_area = space.begin(seen, parent_area.inode)
            space.add(child_area)
            self._operations.dup(parent_area, child_area)

    def _open_rest(self, process: ProcessMaps) -> None:
        space = self._spaces[process.pid]
        for seen in self._missing(process):
            area = self._open(space, seen, self._inode_of(seen.ino))
            if area is not None:
                space.add(area)

    def _missing(self, process: ProcessMaps) -> list[MappedArea]:
        """The areas seen of a new process that it does not have yet, in order."""
        present = {area.start for area in self._spaces[process.pid].areas}
        return sorted(
            (seen for seen in process.areas if seen.start not in present),
            key=lambda seen: seen.start,
        )

    def _follow(self, process: ProcessMaps) -> list[VmArea]:
        """Bring a known process to what was seen; return the areas that are gone."""
        space = self._spaces[process.pid]
        space.follow(process)
        before = space.areas
        now: list[VmArea] = []
        ordered = sorted(process.areas, key=lambda seen: seen.start)
        # The whole list comes before the first resize: the sweep reads the old ends.
        for seen, heir, cut_from in successions(before, ordered):
            if heir is not None:
                heir.place(seen.start, seen.end, seen.offset, seen.perms)
                now.append(heir)
                continue
            inode = cut_from.inode if cut_from is not None else self._inode_of(seen.ino)
            area = self._open(space, seen, inode)
            if area is not None:
                now.append(area)
        space.replace(now)
        kept = {id(area) for area in now}
        return [area for area in before if id(area) not in kept]

    def _open(
        self, space: AddressSpace, seen: MappedArea, inode: MappedInode | None
    ) -> VmArea | None:
        if inode is None:
            return None
        area = space.begin(seen, inode)
        self._operations.open(area)
        return area

    def _forget_all_but(self, pids: set[int]) -> list[VmArea]:
        gone = [self._spaces.pop(pid) for pid in sorted(self._spaces.keys() - pids)]
        return [area for space in gone for area in space.areas]

    def _forget_empty(self, look: list[ProcessMaps]) -> None:
        for process in look:
            if not self._spaces[process.pid]:
                del self._spaces[process.pid]

    def check_invariants(self) -> None:
        """Require that every space is sound and every ring that it leads to is, too."""
        inodes: dict[int, MappedInode] = {}
        for pid, space in self._spaces.items():
            require(pid == space.pid, f"{space!r} is kept as process {pid}")
            require(len(space) > 0, f"{space!r} has no areas")
            space.check_invariants()
            inodes.update((id(area.inode), area.inode) for area in space.areas)
        for inode in inodes.values():
            ShareRing(inode).check_invariants()
