"""Closing a descriptor of a mount whose daemon may be gone."""

import errno
import os

__all__ = ["close_descriptor"]


def close_descriptor(descriptor: int) -> None:
    """Close it. Raises OSError: a last write failed.

    That no daemon was there to hear of the close is no error: the kernel has closed all the same.
    """
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno not in {errno.ENOTCONN, errno.ECONNABORTED}:
            raise
