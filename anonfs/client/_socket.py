"""The daemon's socket: what is asked there comes with descriptors."""

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from anonfs.client._mount_table import mounts_of_device

__all__ = ["ask", "socket_name"]

_NAME_SIZE = 256
_SOCKET = Path(".anonfs") / "socket"
_mounts: dict[int, tuple[Path, ...]] = {}


def socket_name(device: int) -> str:
    """The name of the daemon's socket. Raises OSError: it has none."""
    name = _name_at(_mounts.get(device, ()), device)
    if not name:
        # The number may be of another mount by now.
        _mounts[device] = tuple(mounts_of_device(device))
        name = _name_at(_mounts[device], device)
    if not name:
        raise OSError(errno.ENOENT, "the daemon has no socket")
    return name


def _name_at(points: tuple[Path, ...], device: int) -> str:
    """The name that one of the mountpoints tells; empty where none does."""
    for point in points:
        with contextlib.suppress(OSError):
            name = _line(point / _SOCKET)
            if name and point.stat().st_dev == device:
                return name
    return ""


def _line(path: Path) -> str:
    """The text of a small file; a Python file would ask the daemon for four things more."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _NAME_SIZE).decode("ascii").strip()
    finally:
        os.close(descriptor)


def ask(name: str, request: bytes, descriptors: Sequence[int], deadline: float) -> int:
    """Send a request, until ``deadline`` by time.monotonic(); returns the daemon's errno.

    Raises OSError, or struct.error: there was no answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.connect("\0" + name.removeprefix("@"))
        socket.send_fds(connection, [request], descriptors)
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        (answer,) = struct.unpack("=i", connection.recv(8))
    return int(answer)
