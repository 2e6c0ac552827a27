"""The one error that a command raises for itself."""

__all__ = ["CommandError"]


class CommandError(Exception):
    """What the user can mend, in one line without a full stop."""
