"""The errors of the engine.

An ``AnonfsError`` is an ``OSError`` whose errno is the answer that a system call would give; the
FUSE edge passes it on. An ``InvariantError`` says that the engine's own state is wrong: it is
never turned into an errno, because whatever is done next would be done on bad data.
"""

import errno
import os

__all__ = ["AnonfsError", "InvariantError", "require"]


class AnonfsError(OSError):
    """A request that is answered with an errno."""

    def __init__(self, number: int, detail: str = "") -> None:
        text = os.strerror(number)
        super().__init__(number, f"{text}: {detail}" if detail else text)

    @property
    def name(self) -> str:
        """The errno's name, such as ``ENOENT``."""
        return errno.errorcode.get(self.errno or 0, str(self.errno))


class InvariantError(AssertionError):
    """The engine's state contradicts itself: a defect of anonfs, never of its caller."""


def require(holds: object, what: str) -> None:
    """Raise `InvariantError` with ``what`` unless ``holds``."""
    if not holds:
        raise InvariantError(what)
