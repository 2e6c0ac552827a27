"""A process that outlives the one which made a mount, and takes the mount down.

A test run that is killed cannot clean up. One that hangs on a page of the mount cannot even die:
the kill stays pending until the page's READ ends. So the guard watches its parent, and once the
parent goes without saying ``done``, or has a kill pending, it brings the daemon down and removes
its directory.

Run as ``python -m tests.support.guard PARENT PIDFD POINT WORKPLACE``, with a pipe from the parent
as standard input.
"""

import os
import select
import signal
import sys
from pathlib import Path

from tests.support.rescue import bring_down, remove_workplace

__all__ = ["main"]

_TICK_MILLISECONDS = 1000
_KILL_BIT = 1 << (signal.SIGKILL - 1)


def _is_dying(pid: int) -> bool:
    """Whether process ``pid`` has ended, or would have if it could."""
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            status = (task / "status").read_text(encoding="ascii", errors="replace")
            fields = dict(line.split(":", 1) for line in status.splitlines())
            pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
            leader_is_gone = task.name == str(pid) and fields["State"].split()[0] in "XZ"
            if pending & _KILL_BIT or leader_is_gone:
                return True
    except OSError:
        return not Path(f"/proc/{pid}").exists()
    return False


def _was_told_done(parent: int) -> bool:
    """Wait for the parent's last word: True for ``done``, False when it went without it."""
    poll = select.poll()
    poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    while not poll.poll(_TICK_MILLISECONDS):
        if os.getppid() != parent or _is_dying(parent):
            return False
    return os.read(sys.stdin.fileno(), 16).startswith(b"done")


def main() -> None:
    """Watch, and clean up if need be."""
    parent, pidfd, point, workplace = sys.argv[1:]
    if not _was_told_done(int(parent)):
        bring_down(point, int(pidfd))
        remove_workplace(Path(workplace), point)


if __name__ == "__main__":
    main()
