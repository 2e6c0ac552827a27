"""The one error that a command raises for itself, and how errors are told: line and status."""

import os

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "USER_ERROR", "CommandError", "described"]

USER_ERROR = 2
NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""Of a program that was to be run; it and the one before are the shell's."""


class CommandError(Exception):
    """What the user can mend, in one line without a full stop, and the ``status`` to end with."""

    def __init__(self, line: str, status: int = USER_ERROR) -> None:
        super().__init__(line)
        self.status = status


def described(error: OSError) -> str:
    """An ``OSError`` in the way of every other tool: ``PATH: No such file or directory``."""
    text = error.strerror or str(error)
    return text if error.filename is None else f"{os.fsdecode(error.filename)}: {text}"
