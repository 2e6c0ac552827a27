"""Getting rid of a mount whose daemon may hang.

An unanswered READ keeps a page locked, and whoever touches that page sleeps where no signal
reaches. So the connection is aborted first, through fusectl: every waiting request ends with an
error, and everything after that can be killed, waited for and unmounted. Nothing here looks at
the mounted files.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.mountinfo import Mount, mount_at

__all__ = ["abort_connection", "abort_connection_number", "bring_down", "remove_workplace"]

_CONNECTIONS = Path("/sys/fs/fuse/connections")
_KILL_SECONDS = 20.0
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def _fusectl() -> Iterator[None]:
    """The fusectl file system at its usual place, for the time of the block."""
    if mount_at(_CONNECTIONS) is not None or os.geteuid() != 0:
        yield
        return
    point = os.fsencode(_CONNECTIONS)
    _libc.mount(b"fusectl", point, b"fusectl", ctypes.c_ulong(0), None)
    try:
        yield
    finally:
        _libc.umount2(point, _MNT_DETACH)


def abort_connection(mount: Mount) -> bool:
    """End every request of a FUSE mount with an error; True when the kernel took it."""
    return abort_connection_number(mount.minor)


def abort_connection_number(number: int) -> bool:
    """The same for a mount that is only known by the minor number of its device."""
    with _fusectl():
        try:
            (_CONNECTIONS / str(number) / "abort").write_text("1", encoding="ascii")
        except OSError:
            return False
    return True


def _unmount_lazily(point: str) -> None:
    if os.geteuid() == 0:
        _libc.umount2(os.fsencode(point), _MNT_DETACH | _UMOUNT_NOFOLLOW)
        return
    process = subprocess.Popen(["fusermount3", "-u", "-z", "-q", point], stderr=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_SECONDS)


def _ended(pidfd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def bring_down(point: str, pidfd: int) -> list[str]:
    """Remove whatever is left of a daemon and its mount; tells what had to be done.

    Args:
        point: the mountpoint, as /proc/self/mountinfo spells it.
        pidfd: the daemon, which this may kill.
    """
    done: list[str] = []
    mount = mount_at(point)
    if mount is not None:
        done.append("connection aborted" if abort_connection(mount) else "connection gone")
    if not _ended(pidfd, 0):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        done.append("killed" if _ended(pidfd, _KILL_SECONDS) else "cannot be killed")
    while mount_at(point) is not None:
        _unmount_lazily(point)
        if mount_at(point) == mount:
            done.append("cannot be unmounted")
            break
        done.append("unmounted")
    return done


def remove_workplace(workplace: Path, point: str) -> None:
    """Remove a mount's directory with its log and its swap, unless something is mounted in it."""
    if mount_at(point) is None:
        shutil.rmtree(workplace, ignore_errors=True)
