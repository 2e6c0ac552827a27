"""Private views of files, of which the changed pages are in an anonfs."""

import os

from anonfs.client._client import connect
from anonfs.client._inspect import Target
from anonfs.client._mapping import Mapping
from anonfs.client._private import PrivateMemory

__all__ = ["private_file"]


def private_file(
    path: Target, writable: bool = True, *, mount: str | os.PathLike[str] | None = None
) -> PrivateMemory | Mapping:
    """Map a file in private: what is stored to the mapping changes no file.

    As with MAP_PRIVATE a page costs nothing of its own before it is stored to, and each forked
    child has what was stored before, and its own from then on. But what is changed can go to swap,
    the kernel's or not: it is an overlay without a name, in the anonfs at ``mount``.

    Raises:
        NoMountError, DaemonGoneError: as `connect`.
        ClientError: the file is empty, or in the same mount.
        OSError: as `overlay`.
    """
    return connect(mount).private_file(path, writable)
