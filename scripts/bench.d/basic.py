"""The group ``basic``: what every program does with shared memory, all of it in core."""

import mapped
import named
import streamed
from measure import Group
from peers import TMPFS

__all__ = ["GROUP"]

GROUP = Group(
    "memory in core, and the files that it is in",
    TMPFS,
    (
        mapped.resident,
        *mapped.cold,
        *streamed.SCENARIOS,
        named.small_files,
        mapped.dirty,
    ),
)
