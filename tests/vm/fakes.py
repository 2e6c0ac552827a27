"""Inodes without a file system, and operations that keep count."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from anonfs.errors import require
from anonfs.units import PAGE_SIZE, Ino
from anonfs.vfs import NEVER_ATTACHED, LastAttaches, ListHead
from anonfs.vm import (
    AddressSpaces,
    MappedArea,
    MappedInode,
    ProcessMaps,
    SharedOperations,
    ShareRing,
    VmArea,
)

BASE = 0x7F00_0000_0000


@dataclass
class FakeDentry:
    count: int = 0
    deleted: int = 0
    unmapped_by: list[int] = field(default_factory=list)

    def get(self, times: int = 1) -> None:
        self.count += times

    def put(self, times: int = 1) -> None:
        require(self.count >= times, "put twice")
        self.count -= times
        self.deleted += not self.count

    def unmapped(self, group: int) -> None:
        self.unmapped_by.append(group)


@dataclass(eq=False)
class FakeInode:
    ino: Ino
    share_ring: ListHead = field(default_factory=ListHead)
    dentry: FakeDentry = field(default_factory=FakeDentry)
    attaches: LastAttaches = NEVER_ATTACHED
    parent: int = 0
    is_private: int = 0


@dataclass
class Recorder:
    """Shared operations, with a log of the calls and the areas that are alive."""

    log: list[str] = field(default_factory=list)
    alive: set[VmArea] = field(default_factory=set)
    closed: set[VmArea] = field(default_factory=set)
    operations: SharedOperations = field(default_factory=SharedOperations)

    def _begin(self, area: VmArea) -> None:
        assert area not in self.alive
        assert area not in self.closed
        self.alive.add(area)

    def open(self, area: VmArea) -> None:
        self._begin(area)
        self.operations.open(area)
        self.log.append(f"open {show(area)}")

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        self._begin(child_area)
        assert parent_area in self.alive
        self.operations.dup(parent_area, child_area)
        self.log.append(f"dup {parent_area.pid} {show(child_area)}")

    def close(self, area: VmArea) -> None:
        self.alive.remove(area)
        self.closed.add(area)
        self.operations.close(area)
        self.log.append(f"close {show(area)}")

    def dup_all(self, parent_areas: Sequence[VmArea], child_areas: Sequence[VmArea]) -> None:
        for parent_area, child_area in zip(parent_areas, child_areas, strict=True):
            self.dup(parent_area, child_area)

    def close_all(self, areas: Sequence[VmArea]) -> None:
        for area in areas:
            self.close(area)

    def fault(self, inode: MappedInode, first: int, count: int) -> None:
        self.log.append(f"fault {inode.ino} {first} {count}")

    def swapout(self, inode: MappedInode, first: int, count: int) -> None:
        self.log.append(f"swapout {inode.ino} {first} {count}")

    def take_log(self) -> list[str]:
        log, self.log = self.log, []
        return log


@dataclass
class World:
    """Some inodes and the address spaces over them."""

    inodes: dict[Ino, FakeInode] = field(
        default_factory=lambda: {Ino(ino): FakeInode(Ino(ino)) for ino in (1, 2, 3)}
    )
    recorder: Recorder = field(default_factory=Recorder)
    spaces: AddressSpaces = field(init=False)

    def __post_init__(self) -> None:
        self.spaces = AddressSpaces(self.recorder, self.inodes.get)

    def look(self, *seen: ProcessMaps, complete: bool = True) -> list[str]:
        """What an update with ``seen`` calls."""
        self.spaces.update(seen, complete=complete)
        self.check()
        return self.recorder.take_log()

    def ring(self, ino: int) -> list[VmArea]:
        return list(ShareRing(self.inodes[Ino(ino)]))

    def check(self) -> None:
        self.spaces.check_invariants()
        in_rings = []
        for inode in self.inodes.values():
            ring = ShareRing(inode)
            ring.check_invariants()
            assert inode.dentry.count == len(ring)
            in_rings += list(ring)
        assert len(in_rings) == len(set(in_rings))
        assert set(in_rings) == self.recorder.alive


def show(area: VmArea) -> str:
    """PID INO FIRST-END, in pages from BASE."""
    first, end = (area.start - BASE) // PAGE_SIZE, (area.end - BASE) // PAGE_SIZE
    return f"{area.pid} {area.inode.ino} {first}-{end}"


def seen(ino: int, first: int, end: int, offset: int = 0, perms: str = "rw-s") -> MappedArea:
    """Pages ``first`` to ``end`` from BASE, mapping the inode from page ``offset``."""
    return MappedArea(
        Ino(ino), BASE + first * PAGE_SIZE, BASE + end * PAGE_SIZE, offset * PAGE_SIZE, perms
    )


def maps(
    pid: int, *areas: MappedArea, parent: int = 1, start_time: int = 50, uid: int = 0
) -> ProcessMaps:
    return ProcessMaps(pid, start_time, parent, uid, areas)


def area_of(inode: FakeInode, first: int, end: int, pid: int = 10, offset: int = 0) -> VmArea:
    return VmArea(
        pid=pid,
        uid=0,
        inode=inode,
        start=BASE + first * PAGE_SIZE,
        end=BASE + end * PAGE_SIZE,
        offset=offset * PAGE_SIZE,
        perms="rw-s",
    )
