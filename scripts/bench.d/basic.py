"""The group ``basic``: what every program does with shared memory, all of it in core."""

import mapped
import named
import streamed
from measure import Group

__all__ = ["GROUP"]

GROUP = Group(
    "memory in core, and the files that it is in",
    (
        mapped.resident,
        mapped.page_in,
        mapped.random_faults,
        *streamed.SCENARIOS,
        named.small_files,
        mapped.dirty,
    ),
)
