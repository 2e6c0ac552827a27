"""The files of ``.anonfs/`` in a mount: what it costs, and attributes that are too long for one.

The text is the business of `anonfs.meminfo` and `anonfs.inspection`; here is only where it is.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from anonfs.client._choice import find_mount
from anonfs.client._errors import NotAnonfsError, explained
from anonfs.client._mount_table import mount_of, mounts_of_device
from anonfs.limits import LimitInfo
from anonfs.meminfo import MemInfo, SwapUsage, parse_swaps

__all__ = ["limits", "meminfo", "swaps", "tree_file", "whole_attribute"]

_TREE = ".anonfs"


def meminfo(mount: str | os.PathLike[str] | None = None) -> MemInfo:
    """What the memory of the anonfs at ``mount`` costs, or of the one that `find_mount` finds.

    Raises:
        NoMountError, DaemonGoneError: as `connect`.
        NotAnonfsError: the daemon does not tell.
    """
    return MemInfo.parse(_read(find_mount(mount), "meminfo"))


def swaps(mount: str | os.PathLike[str] | None = None) -> list[SwapUsage]:
    """The swap areas of an anonfs; errors as of `meminfo`."""
    return parse_swaps(_read(find_mount(mount), "swaps"))


def limits(mount: str | os.PathLike[str] | None = None) -> LimitInfo:
    """What the files of an anonfs may come to, and those of each user do; errors as of `meminfo`.

    Root and the mount's owner are told of all users, others of themselves.
    """
    return LimitInfo.parse(_read(find_mount(mount), "limits"))


def _read(directory: Path, name: str) -> str:
    with tree_file(directory, name) as path:
        return path.read_text("utf-8", "surrogateescape")


@contextlib.contextmanager
def tree_file(directory: Path, name: str) -> Iterator[Path]:
    """Where the tree of the mount that ``directory`` lies in has ``name``, for a body to open it.

    Raises:
        NotAnonfsError: there is no such file, so the daemon is an older one.
        DaemonGoneError: there is no daemon.
    """
    path = (mount_of(directory) or directory) / _TREE / name
    try:
        with explained(path):
            yield path
    except FileNotFoundError:
        raise NotAnonfsError(f"{directory} has no {_TREE}/{name}: mount it anew") from None


def whole_attribute(handle: str | os.PathLike[str] | int, name: str) -> str | None:
    """All of an attribute of the inode of a path or descriptor; None where it may not be read.

    A file in a directory that not everybody may search shows it to its owner and root alone.
    """
    with contextlib.suppress(OSError):
        status = os.fstat(handle) if isinstance(handle, int) else Path(handle).stat()
        for point in mounts_of_device(status.st_dev):
            with contextlib.suppress(OSError):
                return (point / _TREE / "inodes" / str(status.st_ino) / name).read_text("ascii")
    return None
