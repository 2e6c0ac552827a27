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

from pyfuse3 import FUSEError

from anonfs.errors import AnonfsError, InvariantError

__all__ = ["Failing", "answered"]

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Failing(Protocol):
    """Handlers that can end the mount; once they ``failed``, all is answered with EIO."""

    failed: bool

    def fail(self) -> None:
        """The state can no longer be trusted: answer what is asked with errors, and stop."""


_Self = TypeVar("_Self", bound=Failing)


def answered(
    handler: Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]],
) -> Callable[Concatenate[_Self, _P], Coroutine[Any, Any, _R]]:
    """``handler`` with every exception turned into a FUSEError."""

    async def answering(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if self.failed:
            raise FUSEError(errno.EIO)
        try:
            return await handler(self, *args, **kwargs)
        except FUSEError:
            raise
        except AnonfsError as error:
            raise FUSEError(error.errno or errno.EIO) from None
        except InvariantError:
            log.exception("%s: the state is broken, the mount ends", handler.__name__)
            self.fail()
        except MemoryError:
            log.error("%s: out of memory", handler.__name__)  # noqa: TRY400
            raise FUSEError(errno.ENOMEM) from None
        except Exception:
            log.exception("%s failed", handler.__name__)
        raise FUSEError(errno.EIO)

    functools.update_wrapper(answering, handler)
    return answering
