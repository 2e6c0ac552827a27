"""The group ``shm``: what programs do with segments of shared memory.

There are two peers: a tmpfs, as it is on /dev/shm, and the kernel's System V where the note of a
line says so.
"""

from held import Held
from measure import Group
from pages import MIB
from passed import Passed
from peers import TMPFS
from segments import SYSV, Attached, Cycled, Objects, Punched, Resized

__all__ = ["GROUP"]

_PAGE = 4096

GROUP = Group(
    "segments of shared memory",
    TMPFS,
    (
        *(Cycled(_PAGE, 300, peer) for peer in ("", SYSV)),
        *(Cycled(MIB, 50, peer) for peer in ("", SYSV)),
        *(Cycled(64 * MIB, 3, peer) for peer in ("", SYSV)),
        *(Attached(300, peer) for peer in ("", SYSV)),
        Objects(100),
        Resized(50),
        Punched(50),
        *(Passed(32_768, peer) for peer in ("", SYSV)),
        *(Held(100, 10, peer) for peer in ("", SYSV)),
    ),
    quick=(
        *(Cycled(_PAGE, 50, peer) for peer in ("", SYSV)),
        *(Cycled(MIB, 10, peer) for peer in ("", SYSV)),
        *(Cycled(64 * MIB, 1, peer) for peer in ("", SYSV)),
        *(Attached(50, peer) for peer in ("", SYSV)),
        Objects(20),
        Resized(10),
        Punched(10),
        *(Passed(16_384, peer) for peer in ("", SYSV)),
        *(Held(20, 10, peer) for peer in ("", SYSV)),
    ),
)
