"""VmArea: one mapping of one inode by one process, as /proc/PID/maps shows it.

An area ties a range of addresses to a range of its inode. The seed of anonfs indexes the inode's
pages by ``address - start + offset``; that relation survives a partial unmap, because the offset
of what is left moves with its start::

    addresses   7000          9000          c000
                ├─────────────┬─────────────┤      one area, offset 1000
    bytes       1000          3000          6000

    after munmap(9000, 1000):
                ├─────────────┤    ├────────┤      offsets 1000 and 4000,
                7000       9000    a000  c000      origin 6000 for both

It must not know page entries, page tables or how the mapping was found out.
"""

from dataclasses import dataclass, field

from anonfs.errors import InvariantError
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ListLink
from anonfs.vm._mapped_inode import MappedInode

__all__ = ["VmArea"]


@dataclass(slots=True, eq=False)
class VmArea(ListLink):
    """A range of addresses of a process that maps an inode, and its place in the inode's ring.

    It differs from the kernel's vm_area_struct, of which it is the shadow: ``offset`` is in bytes
    (vm_pgoff is in pages); it has no mm, but names a process by ``pid``, of several that share one
    address space (between vfork and exec) the one that made the others; ``perms`` is the text of
    /proc/PID/maps instead of vm_flags; it stands for file mappings of the mount only.
    """

    pid: int | None
    """The process (a tgid, never a thread); None for a child whose pid is not known yet."""
    uid: int
    """The effective user of the process: who may see its addresses."""
    inode: MappedInode = field(repr=False)
    start: int
    end: int
    """The first address after the area."""
    offset: int
    """The byte of the inode that ``start`` maps."""
    perms: str
    """As in /proc/PID/maps: ``rw-s``, or ``p`` at the end for a private mapping."""
    group: int = 0
    """The process group of the process; 0 where nobody looked."""
    attached: bool = False
    """Whether the kernel reports what happens to it; else it is known by looks alone."""
    dontcopy: bool = False
    """Whether forks leave it out (VM_DONTCOPY), as that of a private inode: see `is_dup`."""

    def __post_init__(self) -> None:
        ListLink.__init__(self)  # super() knows no class that dataclass has made anew

    @property
    def shared(self) -> bool:
        """Whether writes reach the inode (MAP_SHARED); no mprotect ever changes this."""
        return self.perms[3] == "s"

    @property
    def origin(self) -> int:
        """The address that byte 0 of the inode has, or would have, in this mapping."""
        return self.start - self.offset

    def offset_at(self, address: int) -> int:
        """The byte of the inode that ``address``, inside the area, maps."""
        return address - self.start + self.offset

    def place(self, start: int, end: int, offset: int, perms: str) -> None:
        """Resize the area where it is: the same area, as after vma_expand or a split."""
        self.start, self.end, self.offset, self.perms = start, end, offset, perms

    def check_invariants(self) -> None:
        """Require whole pages, at least one, and permissions that maps could show."""
        if not 0 <= self.start < self.end:
            raise InvariantError(f"{self!r} is empty")
        if self.offset < 0:
            raise InvariantError(f"{self!r} begins before its inode")
        if (self.start | self.end | self.offset) % PAGE_SIZE:
            raise InvariantError(f"{self!r} splits a page")
        if len(self.perms) != 4 or self.perms[3] not in "sp":
            raise InvariantError(f"{self!r} has odd perms")
