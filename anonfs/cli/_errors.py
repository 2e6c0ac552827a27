"""The one error that a command raises for itself, and the exit statuses of what went wrong."""

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "USER_ERROR", "CommandError"]

USER_ERROR = 2
NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""Of a program that was to be run; it and the one before are the shell's."""


class CommandError(Exception):
    """What the user can mend, in one line without a full stop, and the ``status`` to end with."""

    def __init__(self, line: str, status: int = USER_ERROR) -> None:
        super().__init__(line)
        self.status = status
