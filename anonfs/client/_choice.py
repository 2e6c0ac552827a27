"""Which anonfs is meant: the rule that picks one of the mounts of this machine.

A directory that merely looks like a mount is refused, because what is written there would go to
a disk.
"""

import errno
import os
import tempfile
from pathlib import Path

from anonfs.client._errors import DaemonGoneError, NoMountError
from anonfs.client._mount_table import anonfs_mounts, mount_of

__all__ = ["MOUNT_VARIABLE", "default_mountpoint", "find_mount"]

MOUNT_VARIABLE = "ANONFS_MOUNT"
"""The environment variable that names the mount to use."""


def default_mountpoint() -> Path:
    """Where an anonfs is mounted when nobody says otherwise.

    ``/run/anonfs`` for root and ``$XDG_RUNTIME_DIR/anonfs`` for everybody else; a session without
    that variable has a directory of its own below the one for temporary files.
    """
    if os.geteuid() == 0:
        return Path("/run/anonfs")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "anonfs"
    return Path(tempfile.gettempdir()) / f"anonfs-{os.geteuid()}"


def _answering(directory: Path, origin: str = "") -> Path:
    """``directory``, once it is known to lie in an anonfs mount whose daemon answers."""
    directory = directory.absolute()
    mount = mount_of(directory)
    if mount is None:
        raise NoMountError(
            f"{origin}{directory} is not in an anonfs mount: run anonfs mount {directory}"
        )
    try:
        os.statvfs(directory)  # the one question that no cache of the kernel answers
    except OSError as error:
        if error.errno in {errno.ENOTCONN, errno.ECONNABORTED}:
            raise DaemonGoneError.at(mount) from error
        raise
    if not directory.is_dir():
        raise NoMountError(f"{origin}{directory} is not a directory")
    return directory


def find_mount(mount: str | os.PathLike[str] | None = None) -> Path:
    """The directory of the anonfs that is meant.

    It is ``mount``, else what ANONFS_MOUNT names, else the default mountpoint if an anonfs is
    mounted there, else the only anonfs of this machine. A directory inside a mount will do.

    Raises:
        NoMountError: there is none, or there are several and nothing says which.
        DaemonGoneError: the mount is there but its daemon is not.
    """
    if mount is not None:
        return _answering(Path(mount))
    named = os.environ.get(MOUNT_VARIABLE)
    if named:
        return _answering(Path(named), f"{MOUNT_VARIABLE}: ")
    points = anonfs_mounts()
    default = Path(os.path.realpath(default_mountpoint()))
    if default in points:
        return _answering(default)
    if not points:
        raise NoMountError(f"no anonfs is mounted: run anonfs mount {default}")
    if len(points) > 1:
        several = ", ".join(map(str, points))
        raise NoMountError(f"several anonfs are mounted, set {MOUNT_VARIABLE} to one: {several}")
    return _answering(points[0])
