"""The limits of a mount: what sysctl has for the kernel's own segments.

Who made the mount may set them, as an attribute of its root::

    setfattr -n user.sysv.limits -v 'shmmax=1073741824 shmmni=100' /run/anonfs

These here bind who calls shmget, not who makes files without it. What the mount was made with, of
which the daemon sees to it that it holds for all files, is a limit as well.
"""

import os
import re
from dataclasses import dataclass, replace
from typing import Self

from anonfs import limits
from anonfs.units import MAX_FILE_SIZE, PAGE_SIZE

__all__ = ["Limits"]

_ATTRIBUTE = "user.sysv.limits"
_NO_SHMALL = (1 << 64) - (1 << 24) - 1
_NO_SHMMNI = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """``shmmax`` bytes a segment, ``shmall`` pages and ``shmmni`` segments in all."""

    shmmax: int = MAX_FILE_SIZE
    shmall: int = _NO_SHMALL
    shmmni: int = _NO_SHMMNI

    def within(self, mount: limits.Limits) -> Self:
        """These, as far as ``mount`` allows them."""
        segment = self.shmmax if mount.segment is None else mount.segment
        size = self.shmall if mount.size is None else mount.size // PAGE_SIZE
        return replace(self, shmmax=min(self.shmmax, segment), shmall=min(self.shmall, size))

    @property
    def count(self) -> bool:
        """Whether the segments that there are have to be counted."""
        return (self.shmall, self.shmmni) != (_NO_SHMALL, _NO_SHMMNI)

    @classmethod
    def of(cls, root: int) -> Self:
        """Those of the mount whose root is open as ``root``."""
        try:
            text = os.getxattr(f"/proc/self/fd/{root}", _ATTRIBUTE).decode("ascii", "replace")
        except OSError:  # it has none, or none that this process may read
            return cls()
        found = re.findall(r"\b(shmmax|shmall|shmmni)=(\d{1,20})\b", text)
        return cls(**{name: int(value) for name, value in found})
