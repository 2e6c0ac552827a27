"""Attaching: has the kernel report to the daemon what this process does to its mappings.

The process makes a userfaultfd, hands it over and keeps nothing: no descriptor and no connection,
so there is nothing that a fork could share wrongly. A forked child is attached by the kernel, as it
is born. For later mappings it is enough to ask the daemon to look again.

Whatever stands in the way, the mapping works and is observed: by looks, as that of any program.
"""

import errno
import logging
import os
import struct
import threading
import time

from anonfs.client._socket import ask, socket_name
from anonfs.client._userfaultfd import new_userfaultfd

__all__ = ["attach"]

log = logging.getLogger(__name__)

_ATTACH = b"attach"
_SECONDS = 1.0
_names: dict[int, str] = {}
"""The sockets by the number of the device, which may be of another mount by now."""

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
        name, answer = _extend(os.fstat(mapped).st_dev, deadline)
        if answer == errno.ESRCH:
            answer = _hand_over(name, deadline)
            if answer == errno.EBUSY:  # another thread of ours came first
                answer = ask(name, _ATTACH, [], deadline)
        if answer:
            raise OSError(answer, os.strerror(answer))  # noqa: TRY301  one place says why not
    except (OSError, ValueError, struct.error) as error:
        log.debug("mappings are observed, not attached: %s", error)
        return False
    return True


def _extend(device: int, deadline: float) -> tuple[str, int]:
    """Have what is mapped since attached, too; returns the name of the socket and an errno."""
    known = _names.get(device)
    if known is not None:
        try:
            return known, ask(known, _ATTACH, [], deadline)
        except ConnectionRefusedError:  # of a daemon that is gone
            pass
    name = _names[device] = socket_name(device)
    return name, ask(name, _ATTACH, [], deadline)


def _hand_over(name: str, deadline: float) -> int:
    """Make a userfaultfd and send it; returns the daemon's errno."""
    with _handing_over:
        descriptor = new_userfaultfd()
        try:
            return ask(name, _ATTACH, [descriptor], deadline)
        finally:
            os.close(descriptor)
