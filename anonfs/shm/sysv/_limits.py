"""The limits of a mount: what sysctl has for the kernel's own segments.

Who made the mount may set them, as an attribute of its root::

    setfattr -n user.sysv.limits -v 'shmmax=1073741824 shmmni=100' /run/anonfs

What is not named there is unlimited: budget and swap are limits enough, and the daemon enforces
those. These here bind who calls shmget, not who makes files without it.
"""

import os
import re
from dataclasses import dataclass
from typing import Self

from anonfs.units import MAX_FILE_SIZE

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
