"""AddressSpace: the areas of one process.

The other way to the areas than the ring: the ring has all areas of an inode, this has all areas
of a process, in the order of their addresses::

                  inode 7      inode 8
                     │            │
    process 100 ── area ──────── area
    process 101 ── area           │

It must not know the operations: it only keeps what they were called for.
"""

from collections.abc import Callable, Collection
from itertools import pairwise

from anonfs.errors import InvariantError
from anonfs.vm._area import VmArea
from anonfs.vm._mapped_inode import MappedInode
from anonfs.vm._maps import MappedArea, ProcessMaps

__all__ = ["AddressSpace"]


class AddressSpace:
    """The areas of the process that ``process`` describes; none at first.

    A process is its pid and its start time: a reused pid is another process. Unlike the kernel's
    mm_struct it belongs to one process alone and lives on through exec, which only empties it.
    """

    def __init__(self, process: ProcessMaps) -> None:
        self.pid: int | None = process.pid
        self.start_time = process.start_time
        self.parent = process.parent
        self.uid = process.uid
        self.group = process.group
        self.touched = 0
        """When an exact event changed it last, on the clock of `AddressSpaces`."""
        self.exact = False
        """Whether all areas are attached, so that a look would find no others."""
        self._areas: dict[int, VmArea] = {}

    @classmethod
    def of_child(cls, parent: "AddressSpace") -> "AddressSpace":
        """That of a child just forked from ``parent``, whose pid is not known.

        It has areas as there, but for those that forks leave out; they are in no ring yet.
        """
        child = cls(ProcessMaps.nobody(0))
        child.pid, child.parent = None, parent.pid or 0
        child.uid, child.group = parent.uid, parent.group
        child.exact = parent.exact
        child._areas = {area.start: child.whole(area) for area in parent.copied}
        return child

    @property
    def areas(self) -> list[VmArea]:
        """The areas in the order of their addresses."""
        # The dict is nearly or fully in order, which makes the sort linear.
        areas = self._areas
        return [areas[start] for start in sorted(areas)]

    @property
    def copied(self) -> list[VmArea]:
        """Those that a fork copies, in order."""
        return [area for area in self.areas if not area.dontcopy]

    @property
    def uncopied(self) -> list[VmArea]:
        """Those that a fork leaves out, in no order."""
        return [area for area in self._areas.values() if area.dontcopy]

    def __len__(self) -> int:
        return len(self._areas)

    def __contains__(self, area: VmArea) -> bool:
        return self._areas.get(area.start) is area

    def is_same_process(self, process: ProcessMaps) -> bool:
        """Whether ``process`` is this one, rather than a later one with its pid."""
        return (self.pid, self.start_time) == (process.pid, process.start_time)

    def resolve(self, process: ProcessMaps) -> None:
        """The process is known from now on."""
        self.pid, self.start_time = process.pid, process.start_time
        for area in self._areas.values():
            area.pid = self.pid
        self.follow(process)

    def overlapping(self, start: int, end: int) -> list[VmArea]:
        """The areas that have an address from ``start`` to before ``end``, in order."""
        return sorted(
            (area for area in self._areas.values() if area.start < end and start < area.end),
            key=lambda area: area.start,
        )

    def whole(self, area: VmArea) -> VmArea:
        """An area of this process as ``area`` is, in no ring yet and not kept here."""
        # By position: this is done for each area of a process that forks.
        return VmArea(
            self.pid,
            self.uid,
            area.inode,
            area.start,
            area.end,
            area.offset,
            area.perms,
            self.group,
            area.attached,
            area.dontcopy,
        )

    def cut(self, area: VmArea, start: int, end: int) -> VmArea:
        """The part of ``area`` from ``start`` to ``end``, in no ring yet and not kept here."""
        part = self.whole(area)
        part.place(start, end, area.offset_at(start), area.perms)
        return part

    def begin(self, seen: MappedArea, inode: MappedInode) -> VmArea:
        """A new area of this process, in no ring yet and not kept here."""
        return VmArea(
            pid=self.pid,
            uid=self.uid,
            inode=inode,
            start=seen.start,
            end=seen.end,
            offset=seen.offset,
            perms=seen.perms,
            group=self.group,
            dontcopy=bool(inode.is_private),
        )

    def add(self, area: VmArea) -> None:
        """Keep ``area``."""
        if area.start in self._areas:
            raise InvariantError(f"{area!r} is where another area is")
        self._areas[area.start] = area
        self.exact = self.exact and area.attached

    def remove(self, area: VmArea) -> None:
        """Keep ``area`` no longer."""
        if area not in self:
            raise InvariantError(f"{area!r} is not of process {self.pid}")
        del self._areas[area.start]

    def resize(self, area: VmArea, start: int, end: int) -> None:
        """Let ``area``, which is kept, begin and end within where it did."""
        self.remove(area)
        area.place(start, end, area.offset_at(start), area.perms)
        self.add(area)

    def replace(self, areas: Collection[VmArea]) -> None:
        """Keep exactly ``areas``; some of those kept before may have been resized."""
        self._areas = {area.start: area for area in areas}
        self.exact = bool(areas) and all(area.attached for area in areas)

    def set_attached(self, area_is: Callable[[VmArea], bool]) -> None:
        """Decide of each area whether the kernel reports what happens to it."""
        for area in self._areas.values():
            area.attached = area_is(area)
        self.replace(self._areas.values())

    def follow(self, process: ProcessMaps) -> None:
        """Take over the parent, the user and the group: they change at exit, setuid, setpgid."""
        self.parent = process.parent
        if (self.uid, self.group) != (process.uid, process.group):
            self.uid, self.group = process.uid, process.group
            for area in self._areas.values():
                area.uid, area.group = process.uid, process.group

    def check_invariants(self) -> None:
        """Require disjoint areas of this process, each in a ring."""
        for start, area in self._areas.items():
            area.check_invariants()
            if start != area.start:
                raise InvariantError(f"{area!r} is kept at {start:#x}")
            if (area.pid, area.uid, area.group) != (self.pid, self.uid, self.group):
                raise InvariantError(f"{area!r} is not of {self!r}")
            if area.empty:
                raise InvariantError(f"{area!r} is in no ring")
            if self.exact and not area.attached:
                raise InvariantError(f"{area!r} is not attached, but {self!r} is exact")
        for left, right in pairwise(self.areas):
            if left.end > right.start:
                raise InvariantError(f"{left!r} and {right!r} overlap")

    def __repr__(self) -> str:
        return f"<AddressSpace of {self.pid} since {self.start_time}, {len(self)} areas>"
