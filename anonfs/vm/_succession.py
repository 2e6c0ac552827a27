"""Succession: which areas of one look are areas of an earlier look, or of the parent.

Two looks at a process are two lists of ranges. A range goes on being the mapping that it was as
long as it maps the same inode at the same origin (the address of byte 0) and is as shared; unmap,
mprotect and mremap in place only move its ends or cut it::

    before      ├──────── A ────────┤      ├─── B ───┤   ├─ C ─┤
    seen        ├─ 1 ─┤     ├── 2 ──┤      ├────── 3 ──────┤
                1 is A    2 is cut from A    3 is B, which grew; C is gone

Both lists are disjoint and in order, so one sweep over the two does it, in linear time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from anonfs.vm._area import VmArea
from anonfs.vm._maps import MappedArea

__all__ = ["Succession", "covering", "successions"]


class Succession(NamedTuple):
    """What ``seen`` is: ``heir`` itself, or else a piece cut from ``cut_from``, or else new."""

    seen: MappedArea
    heir: VmArea | None
    cut_from: VmArea | None


def _same_mapping(area: VmArea, seen: MappedArea) -> bool:
    return (area.origin, area.inode.ino, area.shared) == (seen.origin, seen.ino, seen.shared)


def _overlapping(
    areas: Sequence[VmArea], seen: Iterable[MappedArea]
) -> Iterator[tuple[MappedArea, list[VmArea]]]:
    """Each of ``seen`` with those of ``areas`` that overlap it and are the same mapping."""
    first = 0
    for wanted in seen:
        while first < len(areas) and areas[first].end <= wanted.start:
            first += 1
        found = []
        # The last one that overlaps may overlap the next wanted one too: first stays.
        index = first
        while index < len(areas) and areas[index].start < wanted.end:
            if _same_mapping(areas[index], wanted):
                found.append(areas[index])
            index += 1
        first = max(first, index - 1)
        yield wanted, found


def successions(areas: Sequence[VmArea], seen: Iterable[MappedArea]) -> list[Succession]:
    """What each of ``seen`` is to ``areas``, both disjoint and in the order of addresses.

    The first piece that is left of an area is the area; an area that is nobody's heir is gone.
    """
    claimed: set[int] = set()
    found = []
    for wanted, overlapping in _overlapping(areas, seen):
        heir = next((area for area in overlapping if id(area) not in claimed), None)
        if heir is not None:
            claimed.add(id(heir))
        found.append(Succession(wanted, heir, overlapping[0] if overlapping else None))
    return found


def covering(
    areas: Sequence[VmArea], seen: Iterable[MappedArea]
) -> Iterator[tuple[MappedArea, VmArea]]:
    """Those of ``seen`` that lie within one of ``areas``, with it: a fork may have copied them."""
    for wanted, overlapping in _overlapping(areas, seen):
        for area in overlapping:
            if area.start <= wanted.start and wanted.end <= area.end:
                yield wanted, area
