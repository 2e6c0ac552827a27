"""Private views of files, of which the changed pages are in an anonfs."""

import os
import secrets

from anonfs.client._client import connect
from anonfs.client._inspect import Target
from anonfs.client._mapping import Mapping
from anonfs.client._overlay import make_overlay, opened

__all__ = ["private_file"]


def private_file(
    path: Target,
    writable: bool = True,
    *,
    mount: str | os.PathLike[str] | None = None,
    attach: bool = True,
) -> Mapping:
    """Map a file in private: what is stored to the mapping changes no file.

    As with MAP_PRIVATE a page costs nothing of its own before it is stored to; what is changed can
    go to swap, the kernel's or not. It is an overlay without a name, in the anonfs at ``mount``.
    Children that are forked share the mapping, and what is stored to it. For ``attach`` see
    `File.map`.

    Raises:
        NoMountError, DaemonGoneError: as `connect`.
        ClientError: the file is empty, or in the same mount.
        OSError: as `overlay`.
    """
    fs = connect(mount)
    name = f".private-{secrets.token_hex(16)}"
    with opened(path) as front, fs.create(name, 0) as file:
        try:
            make_overlay(file.fileno(), front)
        finally:
            fs.unlink(name)
        file.name = None
        file.read_only = not writable
        return file.map(attach=attach)
