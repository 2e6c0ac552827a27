"""Attaching: has the kernel report to the daemon what this process does to its mappings.

The process makes a userfaultfd, hands it over and keeps nothing: no descriptor and no connection,
so there is nothing that a fork could share wrongly. A forked child is attached by the kernel, as it
is born. For later mappings it is enough to ask the daemon to look again.

Whatever stands in the way, the mapping works and is observed: by looks, as that of any program.
"""

import contextlib
import errno
import logging
import os
import socket
import struct
import threading
import time
from pathlib import Path

from anonfs.client._mount_table import mounts_of_device
from anonfs.client._userfaultfd import new_userfaultfd

__all__ = ["attach"]

log = logging.getLogger(__name__)

_ATTACH = b"attach"
_SECONDS = 1.0
_NAME_SIZE = 256
_SOCKET = Path(".anonfs") / "socket"
_mounts: dict[int, tuple[Path, ...]] = {}

# A child that inherited the descriptor would keep it alive when the daemon ends, and who forks then
# would wait for ever: nobody forks meanwhile.
_handing_over = threading.RLock()
os.register_at_fork(
    before=_handing_over.acquire,
    after_in_parent=_handing_over.release,
    after_in_child=_handing_over.release,
)


def attach(mapped: int) -> bool:
    """Attach this process's shared mappings of the mount that the descriptor ``mapped`` is of.

    Never fails: False says that they are observed, for a reason that is logged.
    """
    deadline = time.monotonic() + _SECONDS
    try:
        name = _socket_name(os.fstat(mapped).st_dev)
        answer = _ask(name, deadline, None)
        if answer == errno.ESRCH:
            answer = _hand_over(name, deadline)
            if answer == errno.EBUSY:  # another thread of ours came first
                answer = _ask(name, deadline, None)
        if answer:
            raise OSError(answer, os.strerror(answer))  # noqa: TRY301  one place says why not
    except (OSError, ValueError, struct.error) as error:
        log.debug("mappings are observed, not attached: %s", error)
        return False
    return True


def _hand_over(name: str, deadline: float) -> int:
    """Make a userfaultfd and send it; returns the daemon's errno."""
    with _handing_over:
        descriptor = new_userfaultfd()
        try:
            return _ask(name, deadline, descriptor)
        finally:
            os.close(descriptor)


def _socket_name(device: int) -> str:
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


def _ask(name: str, deadline: float, descriptor: int | None) -> int:
    """Send the request, with a descriptor or without; returns the daemon's errno."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        connection.connect("\0" + name.removeprefix("@"))
        socket.send_fds(connection, [_ATTACH], [] if descriptor is None else [descriptor])
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        (answer,) = struct.unpack("=i", connection.recv(8))
    return int(answer)
