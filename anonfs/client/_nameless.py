"""Files that have no name from the beginning, so that nobody has to take it away."""

import errno
import os
import secrets

__all__ = ["open_nameless"]


def open_nameless(directory: int) -> int:
    """A new file, empty and of mode 0600, open for reading and writing, in a directory's mount.

    ``directory`` may be an O_PATH descriptor. Where there is no O_TMPFILE, before Linux 6.1, the
    file has a random name for a moment, and whoever is killed in it leaves that behind, empty.
    It cannot be given a name.

    Raises OSError: as open(2).
    """
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(".", flags | os.O_TMPFILE | os.O_EXCL, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            raise
    name = f".anonymous-{secrets.token_hex(16)}"
    descriptor = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    os.unlink(name, dir_fd=directory)
    return descriptor
