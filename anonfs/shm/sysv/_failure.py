"""The errors of the calls: an errno of the man page, and what the C library says of it."""

import os

__all__ = ["failure"]


def failure(number: int) -> OSError:
    """The error with that errno."""
    return OSError(number, os.strerror(number))
