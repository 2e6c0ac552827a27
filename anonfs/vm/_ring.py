"""ShareRing: the vm areas of one inode, in the ring that the inode heads.

Whoever wants every mapper of an inode walks the ring: to count loaded PTEs, to say who holds a
segment, to close what is left when the last open file is gone. The ring is the seed's; it shows a
partial unmap as the areas that are left, and never merges neighbours. Its order is the order in
which the areas came::

    inode 7 ──▶ pid 100  7f00-7f40 ──▶ pid 101  7f00-7f10 ──▶ pid 101  7f20-7f40 ──▶ back to inode 7
                mmap                   dup at fork            split by munmap of 7f10-7f20

A ShareRing holds nothing of its own: it is a view over the inode's head, made when needed. It
must not know references; that is what the operations are for.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from anonfs.errors import InvariantError
from anonfs.vm._area import VmArea
from anonfs.vm._mapped_inode import MappedInode

__all__ = ["ShareRing"]


class ShareRing:
    """The areas that map ``inode``, oldest first."""

    __slots__ = ("_inode",)

    def __init__(self, inode: MappedInode) -> None:
        self._inode = inode

    def insert(self, areas: Iterable[VmArea]) -> int:
        """Link ``areas``, which map this inode and are in no ring, at the end; return how many."""
        return self._inode.share_ring.extend(self._members(areas))

    def remove(self, areas: Iterable[VmArea]) -> int:
        """Unlink ``areas``, which are in this ring; return how many."""
        count = 0
        for area in self._members(areas):
            if area.empty:
                raise InvariantError(f"{area!r} is in no ring")
            area.unlink()
            count += 1
        return count

    def __iter__(self) -> Iterator[VmArea]:
        """The areas; the one just handed out may be removed, as in list_for_each_safe."""
        for area in self._inode.share_ring:
            if not isinstance(area, VmArea):
                raise InvariantError(f"{area!r} in the share ring is not a vm area")
            yield area

    def __len__(self) -> int:
        """The number of areas, by a walk."""
        return sum(1 for _ in self)

    def check_invariants(self) -> None:
        """Require a circular ring of sane areas of this inode, disjoint within a process."""
        self._inode.share_ring.check_invariants()
        for area in self._members(self):
            area.check_invariants()
        # Children whose pids are not known yet cannot be told apart here.
        known = ((area.pid, area) for area in self if area.pid is not None)
        areas = [area for _, area in sorted(known, key=lambda one: (one[0], one[1].start))]
        for left, right in pairwise(areas):
            if left.pid == right.pid and left.end > right.start:
                raise InvariantError(f"{left!r} and {right!r} overlap")

    def _members(self, areas: Iterable[VmArea]) -> Iterator[VmArea]:
        inode = self._inode
        for area in areas:
            if area.inode is not inode:
                raise InvariantError(f"{area!r} maps another inode than {inode.ino}")
            yield area
