"""fusermount3: the setuid program through which a user may unmount."""

import os
import subprocess
import time
from pathlib import Path

from anonfs.cli._errors import CommandError
from anonfs.client import Mount, mount_at

__all__ = ["BusyError", "unmount"]

GONE_TIMEOUT = 10.0
"""How long an unmounted file system may stay in the mount table, in seconds."""

_POLL = 0.02


class BusyError(CommandError):
    """The mount has open or mapped files."""


def unmount(point: Path, *, lazy: bool = False) -> None:
    """Unmount ``point`` and wait until it has left the mount table.

    A ``lazy`` unmount takes the name away at once and leaves the file system to its users.

    Raises:
        BusyError: it has users; never for a lazy one.
        CommandError: what else fusermount3 says.
    """
    present = mount_at(point)
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(point)]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"}
        )
    except FileNotFoundError:
        raise CommandError("fusermount3 is not installed: install the package fuse3") from None
    if ran.returncode:
        said = ran.stderr.strip() or f"fusermount3 failed with status {ran.returncode}"
        raise (BusyError if "busy" in said else CommandError)(said)
    _wait_until_gone(point, present)


def _wait_until_gone(point: Path, present: Mount | None) -> None:
    """Wait until ``present`` is gone; there may be another one below it, as on /dev/shm."""
    deadline = time.monotonic() + GONE_TIMEOUT
    while present is not None and mount_at(point) == present:
        if time.monotonic() > deadline:
            raise CommandError(f"{point} is still mounted after {GONE_TIMEOUT:.0f} s")
        time.sleep(_POLL)
