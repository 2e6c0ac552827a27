"""Sharers: the processes that have no memory of their own, but that of another.

An address space has its areas once, however many processes share it (vfork, CLONE_VM), and they are
those of the process that made the others::

    process 100 ── areas
       ├─ 101 ···· vfork: shares with 100
       └─ 102 ···· CLONE_VM: shares with 100
            └─ 103 ···· CLONE_VM of that: shares with 100

When the owner ends or calls exec, the memory is the others', of whom the next look finds the eldest
to be the owner.
"""

from collections.abc import Collection
from dataclasses import replace

from anonfs.vm._maps import ProcessMaps

__all__ = ["Sharers"]


class Sharers:
    """Those of the processes that were looked at."""

    def __init__(self) -> None:
        self._owners: dict[int, int] = {}

    def __contains__(self, pid: int) -> bool:
        return pid in self._owners

    def owner(self, pid: int) -> int:
        """The process that has the areas of process ``pid``."""
        return self._owners.get(pid, pid)

    def of(self, pids: Collection[int]) -> set[int]:
        """Those who share memory with one of ``pids``, and may be left with it."""
        return {pid for pid, owner in self._owners.items() if owner in pids}

    def own(self, seen: ProcessMaps) -> ProcessMaps:
        """What ``seen`` has of its own; with whom it shares the rest is noted."""
        if not seen.shares_with:
            self._owners.pop(seen.pid, None)
            return seen
        self._owners[seen.pid] = self.owner(seen.shares_with)
        return replace(seen, areas=())

    def clear(self) -> None:
        """All processes are about to be looked at anew."""
        self._owners.clear()
