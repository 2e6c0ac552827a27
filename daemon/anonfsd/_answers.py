"""How a handler's outcome becomes an answer: nothing that it raises may end the daemon.

pyfuse3 ends its loop, and the mount with it, at any exception but FUSEError. So an engine's error
becomes its errno; anything unforeseen is logged and becomes EIO. A broken invariant also does, but
the mount is ended, since what it would answer from then on could be wrong.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import trio
from pyfuse3 import FUSEError

from anonfs.errors import AnonfsError, InvariantError
from anonfsd._room import NO_ROOM, Patience, Room

__all__ = ["Answering", "Failing", "answered", "errno_for"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Failing(Protocol):
    """Handlers that can end the mount; once they ``failed``, all is answered with EIO."""

    failed: bool

    def fail(self) -> None:
        """The state can no longer be trusted: answer what is asked with errors, and stop."""


class Answering(Failing, Protocol):
    """Handlers that have `answered`."""

    room: Room


_Self = TypeVar("_Self", bound=Answering)


def errno_for(failing: Failing, name: str, error: Exception) -> int:
    """The errno that an ``error`` of ``name`` is answered with; what is unforeseen is logged."""
    if isinstance(error, FUSEError):
        return int(error.errno)
    if isinstance(error, AnonfsError):
        return error.errno or errno.EIO
    if isinstance(error, MemoryError):
        log.error("%s: out of memory", name)
        return errno.ENOMEM
    if isinstance(error, InvariantError):
        log.error("%s: the state is broken, the mount ends", name, exc_info=error)
        failing.fail()
    else:
        log.error("%s failed", name, exc_info=error)
    return errno.EIO


def answered(
    handler: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]]:
    """``handler`` with every exception turned into a FUSEError.

    One that finds no room, and has done nothing then, is called again when there may be some; in
    the event loop, for others must not wait.
    """

    async def answering(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if self.failed:
            raise FUSEError(errno.EIO)
        patience = None
        while True:
            try:
                return await handler(self, *args, **kwargs)
            except FUSEError:
                raise
            except Exception as error:  # noqa: BLE001  whatever it is, the kernel waits for an answer
                number = errno_for(self, handler.__name__, error)
            if number not in NO_ROOM or not trio.lowlevel.in_trio_run():
                raise FUSEError(number)
            patience = patience or Patience(self.room)
            if not await patience.again_soon():
                raise FUSEError(number)

    functools.update_wrapper(answering, handler)
    return answering
