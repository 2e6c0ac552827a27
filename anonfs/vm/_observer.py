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

Which areas a process has from its parent `_inheritance` knows. What it has that shares the memory
of its parent are the parent's areas, see `Sharers`. If that ends or calls exec, the child is told
to have them, by a ``dup`` if the parent was seen to go and else by an ``open``, and then they are
closed as the parent's.

The kernel's own events are exact, and tell as it does: `fork` calls ``dup`` for each area, `unmap`
opens what a split makes and closes the part that goes, `remap` opens the copy, whose original an
unmap closes. Before a look is told, those are that wait to be read: it may show that a thread has
unmapped what the fork of another thread has just given to a child. So that nobody tells twice, a
look is compared with the moment it began at:

- a process that an event has changed since is left as the events have it;
- one that an event has ended, or rid of its last area, since is not brought back;
- one that may be a forked child whose pid is not known yet, or was not when it ended since, waits
  for `resolve` or the next look.

What a process did may be seen before there is an event of it, so a child may be told by a look
after all, and is closed again when it is resolved.

It must not know how the looks are made. Everything is synchronous and belongs to one thread; only
the looking may happen in another. A look that was made before an inode was dropped can bring its
areas back until the next look, if ``inode_of`` still knows the number.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable

from anonfs.errors import require
from anonfs.units import Ino
from anonfs.vm._address_space import AddressSpace
from anonfs.vm._area import VmArea
from anonfs.vm._inheritance import copies, inherited
from anonfs.vm._lives import Lives
from anonfs.vm._mapped_inode import MappedInode
from anonfs.vm._maps import MappedArea, ProcessMaps
from anonfs.vm._operations import VmOperations
from anonfs.vm._ring import ShareRing
from anonfs.vm._sharers import Sharers
from anonfs.vm._succession import successions

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


def _emptied(space: AddressSpace) -> list[VmArea]:
    """The areas of ``space``, which keeps none: an event may still come for it."""
    areas = space.areas
    space.replace(())
    return areas


class AddressSpaces:
    """The areas of all processes that were seen, each told to ``operations`` once.

    Args:
        operations: what is told.
        inode_of: the inode of a number, or None if there is none (any more); its areas are then
            left out, until a look finds the inode known.

    Attributes:
        catch_up: has the exact events told that wait to be read; called before a look is told.
    """

    def __init__(
        self, operations: VmOperations, inode_of: Callable[[Ino], MappedInode | None]
    ) -> None:
        self._operations = operations
        self._inode_of = inode_of
        self._spaces: dict[int, AddressSpace] = {}
        self._sharers = Sharers()
        self._lives = Lives()
        self._clock = 0
        self.catch_up: Callable[[], None] = lambda: None

    @property
    def moment(self) -> int:
        """Now, for a look that begins: it counts the exact events."""
        return self._clock

    @property
    def unresolved(self) -> list[AddressSpace]:
        """The forked children whose pids are not known, in the order of their births."""
        return list(self._lives.unresolved)

    @property
    def pids(self) -> frozenset[int]:
        """The processes that have areas."""
        return frozenset(self._spaces)

    @property
    def owners(self) -> frozenset[tuple[int, int]]:
        """The pids and start times of those who have areas, in memory of their own."""
        return frozenset((pid, space.start_time) for pid, space in self._spaces.items())

    def has_areas(self, pid: int) -> bool:
        """Whether process ``pid`` has any, or shares the memory of one who has."""
        return pid in self._spaces or pid in self._sharers

    def with_sharers(self, pids: Collection[int]) -> set[int]:
        """``pids``, and those who share memory with one of them and may be left with it."""
        return {*pids, *self._sharers.of(pids)}

    def is_exact(self, pid: int) -> bool:
        """Whether the kernel reports all that becomes of its areas, but for an exec."""
        space = self._spaces.get(pid)
        return space is not None and space.exact

    def update(
        self, seen: Iterable[ProcessMaps], *, complete: bool, since: int | None = None
    ) -> None:
        """Bring the processes in ``seen`` to exactly what was seen.

        With ``complete``, all processes were looked at: those not in ``seen`` are gone. ``since``
        is the `moment` when the look began, by default this one.
        """
        since = self._clock if since is None else since
        self.catch_up()
        if complete:
            self._sharers.clear()
        own = [self._sharers.own(process) for process in _parents_first(seen)]
        news = [process for process in own if self._is_news(process, since)]
        look = [process for process in news if not self._may_be_a_child(process, since)]
        self._follow_all(look, complete=complete, since=since)

    def _follow_all(self, look: list[ProcessMaps], *, complete: bool, since: int) -> None:
        self._close_reused(look)
        new = {process.pid: AddressSpace(process) for process in look}
        for pid in self._spaces.keys() & new.keys():
            del new[pid]
        self._spaces.update(new)
        for process in look:
            self._inherit(process, is_new=process.pid in new)
        vanished: list[VmArea] = []
        for process in look:
            is_new = process.pid in new
            self._inherit(process, is_new=is_new)
            if is_new:
                self._open_rest(process)
            else:
                vanished += self._follow(process)
        if complete:
            touched = {pid for pid, space in self._spaces.items() if space.touched > since}
            vanished += self._forget_all_but({process.pid for process in look} | touched)
            self._lives.forget(since)
        self._forget_empty(look)
        self._operations.close_all(vanished)

    def drop(self, inode: MappedInode) -> None:
        """Close every area of ``inode``: its last open file went, so no mapping is left."""
        # A list, for the last close may delete the inode and its ring with it.
        for area in list(ShareRing(inode)):
            space = self._space_of(area)
            if space is not None:
                space.remove(area)
                self._forget_if_empty(space)
            self._operations.close(area)

    # -- exact events ----------------------------------------------------------------------

    def attach(
        self, process: ProcessMaps, reported: Iterable[tuple[int, int]], *, since: int
    ) -> AddressSpace | None:
        """Follow a look at ``process``; the kernel reports the ranges ``reported`` from now on.

        They are disjoint and in order. Returns None if the process has no areas, or has changed
        since, so that it has to be looked at anew.
        """
        self.catch_up()
        # Who attaches is no child that waits: that one is attached.
        process = self._sharers.own(process)
        look = [process] if self._is_news(process, since) else []
        self._follow_all(look, complete=False, since=since)
        space = self._spaces.get(process.pid)
        if space is None or space.touched > since:
            return None
        spans = list(reported)
        starts = [start for start, _ in spans]

        def is_reported(area: VmArea) -> bool:
            at = bisect_right(starts, area.start) - 1
            return area.attached or (at >= 0 and area.end <= spans[at][1])

        space.set_attached(is_reported)
        # A look that is under way may have come to the process before it mapped anything.
        space.touched = self._tick()
        return space

    def attached_spans(self, pid: int) -> set[tuple[int, int]]:
        """Where process ``pid`` has attached areas: from, to before."""
        space = self._spaces.get(pid)
        areas = space.areas if space is not None else []
        return {(area.start, area.end) for area in areas if area.attached}

    def detach(self, space: AddressSpace) -> None:
        """The kernel reports ``space`` no longer: looks go on with it.

        A child whose pid is not known is closed: a look will find it.
        """
        if space.pid is None:
            self.end(space)
        space.set_attached(lambda _: False)

    def fork(self, parent: AddressSpace) -> AddressSpace:
        """The process of ``parent`` has forked: dup each area. The child has yet to be resolved."""
        child = AddressSpace.of_child(parent)
        child.touched = self._tick()
        self._operations.dup_all(parent.copied, child.areas)
        if child:
            self._lives.unresolved.append(child)
        return child

    def resolve(self, child: AddressSpace, process: ProcessMaps) -> None:
        """The forked ``child`` is ``process``, whose areas are not looked at."""
        if child not in self._lives.unresolved:
            return  # It has ended, or has unmapped everything.
        told = self._spaces.pop(process.pid, None)
        self._lives.unresolved.remove(child)
        child.resolve(process)
        child.touched = self._tick()
        self._spaces[process.pid] = child
        if told is not None:
            self._operations.close_all(_emptied(told))

    def unmap(self, space: AddressSpace, start: int, end: int) -> None:
        """Addresses from ``start`` to before ``end`` are gone: close what was there."""
        space.touched = self._tick()
        for area in space.overlapping(start, end):
            part = self._isolate(space, area, max(start, area.start), min(end, area.end))
            space.remove(part)
            self._operations.close(part)
        if not space:
            self._lives.end(space)
        self._forget_if_empty(space)

    def remap(self, space: AddressSpace, start: int, to: int, length: int) -> None:
        """What was at ``start`` for ``length`` bytes is at ``to``: an unmap of it follows."""
        space.touched = self._tick()
        areas = space.overlapping(start, start + length)
        if not areas:
            # A look has shown it where it is now: all that is news is that it is reported.
            there = space.overlapping(to, to + length)
            space.set_attached(lambda area: area.attached or area in there)
            return
        self.unmap(space, to, to + length)
        for area in areas:
            first, end = max(start, area.start), min(start + length, area.end)
            moved = space.cut(area, first, end)
            moved.start, moved.end = first + to - start, end + to - start
            space.add(moved)
            self._operations.open(moved)

    def end(self, space: AddressSpace) -> None:
        """The process is gone: close all its areas."""
        space.touched = self._tick()
        self._lives.end(space)
        self._operations.close_all(_emptied(space))
        self._forget_if_empty(space)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    def _isolate(self, space: AddressSpace, area: VmArea, start: int, end: int) -> VmArea:
        """Split ``area`` so that ``start`` to ``end`` is an area: as __split_vma, which opens."""
        if (start, end) == (area.start, area.end):
            return area
        part = space.cut(area, start, end)
        rest = space.cut(area, end, area.end) if area.start < start and end < area.end else None
        if area.start < start:
            space.resize(area, area.start, start)
        else:
            space.resize(area, end, area.end)
        for new in (rest, part):
            if new is not None:
                space.add(new)
                self._operations.open(new)
        return part

    def _is_news(self, process: ProcessMaps, since: int) -> bool:
        """Whether a look that began at ``since`` says more of ``process`` than the events did."""
        space = self._spaces.get(process.pid)
        # Where the processes differ, the look may as well show the one that had the pid before.
        if space is not None and space.touched > since:
            return False
        return not self._lives.has_ended(process, since)

    def _may_be_a_child(self, process: ProcessMaps, since: int) -> bool:
        """Whether a look that began at ``since`` may show a forked child that is not resolved."""
        space = self._spaces.get(process.pid)
        if space is not None and space.is_same_process(process):
            return False
        # A process that is gone is none, and one without areas says nothing.
        parent = self._sharers.owner(process.parent)
        return bool(process.areas) and self._lives.may_have_born(
            process, parent, since, self._spaces
        )

    def _space_of(self, area: VmArea) -> AddressSpace | None:
        if area.pid is not None:
            space = self._spaces.get(area.pid)
            return space if space is not None and area in space else None
        return self._lives.child_with(area)

    def _forget_if_empty(self, space: AddressSpace) -> None:
        if space:
            return
        if space.pid is None:
            if space in self._lives.unresolved:
                self._lives.unresolved.remove(space)
        elif self._spaces.get(space.pid) is space:
            del self._spaces[space.pid]

    # -- looks -----------------------------------------------------------------------------

    def _close_reused(self, look: list[ProcessMaps]) -> None:
        for process in look:
            space = self._spaces.get(process.pid)
            if space is not None and not space.is_same_process(process):
                del self._spaces[process.pid]
                self._operations.close_all(_emptied(space))

    def _inherit(self, process: ProcessMaps, *, is_new: bool) -> None:
        """Dup what it has from its parent, of the areas that this has by now."""
        parent = self._spaces.get(self._sharers.owner(process.parent))
        # A parent that started later got its pid from the real parent, while we looked.
        if parent is None or parent.start_time > process.start_time:
            return
        space, missing = self._spaces[process.pid], self._missing(process)
        if not missing:
            return
        pairs = copies(space, missing, parent, self._inode_of)
        if is_new:
            pairs += inherited(space, missing, parent)
        pairs.sort(key=lambda pair: pair[1].start)
        for _, child_area in pairs:
            space.add(child_area)
        self._operations.dup_all([a for a, _ in pairs], [a for _, a in pairs])

    def _open_rest(self, process: ProcessMaps) -> None:
        space = self._spaces[process.pid]
        for seen in self._missing(process):
            area = self._open(space, seen, self._inode_of(seen.ino))
            if area is not None:
                space.add(area)

    def _missing(self, process: ProcessMaps) -> list[MappedArea]:
        """The areas seen of a process that begin where it had none, in order."""
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
                area.attached = cut_from is not None and cut_from.attached
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
        return [area for space in gone for area in _emptied(space)]

    def _forget_empty(self, look: list[ProcessMaps]) -> None:
        for process in look:
            space = self._spaces.get(process.pid)
            if space is not None:
                self._forget_if_empty(space)

    def check_invariants(self) -> None:
        """Require that every space is sound and every ring that it leads to is, too."""
        inodes: dict[int, MappedInode] = {}
        for pid, space in self._spaces.items():
            require(pid == space.pid, f"{space!r} is kept as process {pid}")
        for child in self._lives.unresolved:
            require(child.pid is None, f"{child!r} is kept as a child to be resolved")
        for space in (*self._spaces.values(), *self._lives.unresolved):
            require(len(space) > 0, f"{space!r} has no areas")
            space.check_invariants()
            inodes.update((id(area.inode), area.inode) for area in space.areas)
        for inode in inodes.values():
            ShareRing(inode).check_invariants()
