"""ProcessMaps and MappedArea: what one look at a process showed.

Plain values, made by whoever can look (the daemon reads /proc) and compared with what is known by
`AddressSpaces`. They must not know inodes: an area names its inode by number.
"""

from dataclasses import dataclass
from typing import Self

from anonfs.units import Ino

__all__ = ["MappedArea", "ProcessMaps"]


@dataclass(frozen=True, slots=True)
class MappedArea:
    """A line of /proc/PID/maps; addresses and ``offset`` in bytes."""

    ino: Ino
    start: int
    end: int
    offset: int
    perms: str

    @property
    def shared(self) -> bool:
        """Whether it is a MAP_SHARED mapping."""
        return self.perms[3] == "s"

    @property
    def origin(self) -> int:
        """The address that byte 0 of the inode has, or would have, in this mapping."""
        return self.start - self.offset


@dataclass(frozen=True, slots=True)
class ProcessMaps:
    """The areas of one process (a tgid), in the order of their addresses.

    ``start_time`` is in clock ticks since boot; a pid with another start time is another process.
    ``parent`` is the pid of the parent as it was at the look, ``uid`` the effective user, ``group``
    the process group, 0 where nobody looked. Where the process has no memory of its own, as between
    vfork and exec, ``shares_with`` is the parent, whose ``areas`` these are; else it is 0.
    """

    pid: int
    start_time: int
    parent: int
    uid: int
    areas: tuple[MappedArea, ...]
    group: int = 0
    shares_with: int = 0

    @classmethod
    def nobody(cls, pid: int) -> Self:
        """The look that found no process ``pid``: no areas, and a start time that none has."""
        return cls(pid, start_time=-1, parent=0, uid=0, areas=())

    @property
    def exists(self) -> bool:
        """Whether there was a process."""
        return self.start_time >= 0
