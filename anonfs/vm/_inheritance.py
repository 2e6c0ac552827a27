"""Inheritance: which areas of a process came to it from its parent, at its fork.

A fork copies areas as they are, to the same addresses. Those of private inodes it leaves out; the
inode is copied instead, and the child maps the copy itself, before its program goes on::

    parent        shared, inode 7        private, inode 8
                        │                       ┊
    child         shared, inode 7        private, inode 9, whose parent is 8

What is seen for the first time may well lie where the parent has the same inode and yet be an mmap,
because a forked child has the parent's address layout. So of a shared inode a process has areas
from its parent only when it is new: it is never visible before it has them all. The copy of a
private one, which was made for nobody else, it may have later.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from anonfs.units import Ino
from anonfs.vm._address_space import AddressSpace
from anonfs.vm._area import VmArea
from anonfs.vm._mapped_inode import MappedInode, is_dup
from anonfs.vm._maps import MappedArea
from anonfs.vm._succession import covering

__all__ = ["any_overlap", "copies", "inherited"]

_Pairs = list[tuple[VmArea, VmArea]]


def any_overlap(areas: Sequence[VmArea], seen: Iterable[MappedArea | VmArea]) -> bool:
    """Whether any of ``seen`` has an address of one of ``areas``, which are in order."""
    starts = [area.start for area in areas]
    before = ((bisect_left(starts, one.end), one.start) for one in seen)
    return any(at > 0 and areas[at - 1].end > start for at, start in before)


def inherited(child: AddressSpace, missing: Sequence[MappedArea], parent: AddressSpace) -> _Pairs:
    """Areas of ``parent`` that a fork copied, each with what became of it in ``child``.

    ``missing`` is what was seen of the child and is not known yet, in order. Its new areas are in
    no ring yet and not kept there.
    """
    found = covering(parent.areas, missing)
    return [(original, child.begin(seen, original.inode)) for seen, original in found]


def copies(
    child: AddressSpace,
    missing: Iterable[MappedArea],
    parent: AddressSpace,
    inode_of: Callable[[Ino], MappedInode | None],
) -> _Pairs:
    """As `inherited`, of the areas that a fork leaves out."""
    originals = parent.uncopied
    if not originals:
        return []
    seen_at = {seen.start: seen for seen in missing}
    pairs = []
    for original in originals:
        seen = seen_at.get(original.start)
        inode = inode_of(seen.ino) if seen is not None else None
        if seen is None or inode is None or seen.offset != original.offset:
            continue
        if is_dup(inode, original.inode):
            pairs.append((original, child.begin(seen, inode)))
    # Where another area is, as far as is known, it has gone since: what follows is an open.
    return [] if any_overlap(child.areas, [area for _, area in pairs]) else pairs
