"""Resolving: which process a userfaultfd reports on that came with the event of a fork.

The event does not name the child. It is among the children of its parent, or, where that one has
ended, anywhere; and it is the one in whose page tables a page shows as protected that was protected
through the descriptor. So children of one parent that look the same are told apart for certain.
"""

import os
from collections.abc import Collection
from pathlib import Path

from anonfsd._userfaultfd import shows_in

__all__ = ["find_child"]


def find_child(
    descriptor: int, address: int, parent: int | None, known: Collection[int]
) -> tuple[int | None, int]:
    """The process that ``descriptor`` reports on, and a pidfd of it; None and -1 if not seen.

    Args:
        descriptor: a userfaultfd.
        address: of a page that is registered with it.
        parent: the process that has forked, if that is known.
        known: processes that it is not, since they are attached.

    Raises:
        OSError: as `shows_in`: ESRCH, the process is gone.
    """
    nearby = _children(parent) if parent is not None else []
    for candidates in (nearby, _all_pids()):
        wanted = [pid for pid in candidates if pid not in known]
        for pid in shows_in(descriptor, address, wanted):
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            # The pid may have been another's at the first look.
            if shows_in(descriptor, address, [pid]):
                return pid, pidfd
            os.close(pidfd)
    return None, -1


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text("ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
