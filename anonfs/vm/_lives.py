"""Lives: births and ends that events have told, and that a look may be too old to know.

A look takes a while, and meanwhile processes fork and end::

    look   begins ────────────────────────────────────▶ update
    event            fork: a child     end of 100
    shows  ...          101 ...             100: it had areas when it was looked at

That 100 has ended is remembered until every look that began before is over. The pid of the child no
event tells: until it is resolved 101 may be that child, and waits. So it does where a child has
ended before its pid was known, for it may be that one.
"""

from collections.abc import Container

from anonfs.vm._address_space import AddressSpace
from anonfs.vm._area import VmArea
from anonfs.vm._inheritance import any_overlap
from anonfs.vm._maps import ProcessMaps

__all__ = ["Lives"]


class Lives:
    """``unresolved`` are the forked children whose pids are not known, in order of birth."""

    def __init__(self) -> None:
        self.unresolved: list[AddressSpace] = []
        self._ended: dict[tuple[int, int], int] = {}
        self._lost: list[AddressSpace] = []

    def end(self, space: AddressSpace) -> None:
        """``space`` has no areas since it was last touched."""
        if space.pid is None:
            self._lost.append(space)
        else:
            self._ended[space.pid, space.start_time] = space.touched

    def has_ended(self, process: ProcessMaps, since: int) -> bool:
        """Whether ``process`` has lost all its areas after ``since``."""
        return self._ended.get((process.pid, process.start_time), 0) > since

    def may_have_born(
        self, process: ProcessMaps, parent: int, since: int, known: Container[int]
    ) -> bool:
        """Whether ``process``, not known and seen since ``since``, may be a child of no known pid.

        ``parent`` is whose areas it may have, ``known`` are the processes that have areas.
        """
        lost = (child for child in self._lost if child.touched > since)
        return any(
            (child.parent == parent or child.parent not in known)
            and (child.touched > since or any_overlap(child.areas, process.areas))
            for child in (*self.unresolved, *lost)
        )

    def child_with(self, area: VmArea) -> AddressSpace | None:
        """The child whose area that is, if its pid is not known."""
        return next((child for child in self.unresolved if area in child), None)

    def forget(self, since: int) -> None:
        """Looks that began before ``since`` are over."""
        self._ended = {who: when for who, when in self._ended.items() if when > since}
        self._lost = [child for child in self._lost if child.touched > since]
