"""What a running daemon knows of areas, and how: the tier that is in force, in one line.

In doctor's vocabulary, except that doctor says what the machine offers, and this what came of it:
a daemon whose subscription was refused looks at /proc now and then, whatever else it may do.
"""

import os

from anonfsd.doctor import Tier

__all__ = ["tier_in_force", "tier_line"]

_HOW = {
    Tier.BASIC: "rings follow /proc, by a look now and then and at each inspection",
    Tier.FULL: "rings follow each fork, exec and exit",
    Tier.EXACT: "the kernel reports each fork and unmap of what is attached as it happens",
}


def tier_in_force(*, events: bool, exact: bool) -> Tier:
    """The tier of a daemon that is told of process events, and can be attached to, or not."""
    if os.geteuid() != 0 or not events:
        return Tier.BASIC
    return Tier.EXACT if exact else Tier.FULL


def tier_line(*, exact: bool, no_events: str = "") -> str:
    """The line for the log.

    Args:
        exact: whether areas can be attached.
        no_events: why there are no events of processes; empty if there are.
    """
    tier = tier_in_force(events=not no_events, exact=exact)
    missing = [f"no process events: {no_events}"] if no_events else []
    if os.geteuid() != 0:
        missing.append(f"only what uid {os.geteuid()} may see")
    return f"tier {tier}: {_HOW[tier]}" + (f" ({'; '.join(missing)})" if missing else "")
