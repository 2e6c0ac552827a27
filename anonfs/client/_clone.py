"""Clones: copy-on-write copies of files, by an extended attribute of the directory they go to.

In a directory with the sticky bit, as the root of a mount that everybody may use is one, the kernel
lets its owner alone set attributes. There the copy is made in a directory of one's own, and moved.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from anonfs.client._errors import NotAnonfsError, explained
from anonfs.client._inspect import Target
from anonfs.client._mount_table import FS_TYPE, mount_of_descriptor
from anonfs.inspection import PREFIX

__all__ = ["clone", "clone_into"]

_CLONE = f"{PREFIX}clone"


def clone(source: Target, destination: str | os.PathLike[str], *, lazy: bool = False) -> None:
    """Make a file ``destination`` with what readers of ``source`` see now, without copying it.

    Pages are shared until one side writes to them, whether they are in core or on swap. With
    ``lazy`` so are, for 512 pages each, the records of where pages are: that takes less time here,
    and a little more at the first writes. The copy has mode 0600 and belongs to the caller, who
    has to be able to read ``source``; what writes to neither has no part in it.

    Raises:
        NotAnonfsError: ``source`` is not in an anonfs.
        OSError: EEXIST; EXDEV, the two are not in one mount; EISDIR, it is a directory; ENOSPC,
            there is no room that the copy could be promised.
    """
    path = Path(destination)
    with _opened(source) as descriptor:
        device = _device_of(descriptor)
        with explained(path):
            if path.parent.stat().st_dev != device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            # Where the daemon is not root it would have pages written back one by one.
            os.fdatasync(descriptor)
            try:
                _ask(descriptor, path, lazy=lazy)
            except PermissionError:
                if not path.parent.stat().st_mode & stat.S_ISVTX:
                    raise
                _ask_within(descriptor, path, lazy=lazy)


def clone_into(source: int, copy: int, *, quiet: bool = False) -> None:
    """Make ``copy``, an empty file, what `clone` makes of ``source``; both are descriptors.

    ``quiet`` says that nobody stores to ``source`` before this returns. Where somebody does all the
    same the copy has it in part. What it saves is to stop them, for which all pages have to leave
    the page tables; and the daemon does not look for what is dirty, which is written back here.

    Raises:
        OSError: EINVAL, ``copy`` is not empty; else as `clone`.
    """
    os.fdatasync(source)
    how = "lazy quiet" if quiet else "lazy"
    os.setxattr(copy, _CLONE, f"{how} {source}".encode())
    os.fstat(copy)  # the kernel asks for its size anew


@contextmanager
def _opened(source: Target) -> Iterator[int]:
    """A descriptor of ``source``; its own where it has one."""
    if not isinstance(source, str | os.PathLike):
        yield source if isinstance(source, int) else source.fileno()
        return
    with explained(Path(source)):
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _device_of(descriptor: int) -> int:
    """The st_dev of the anonfs that an open file is in. Raises NotAnonfsError: it is in none."""
    mount = mount_of_descriptor(descriptor)
    if mount is None or mount.fs_type != FS_TYPE:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        raise NotAnonfsError(f"{path} is not in an anonfs mount")
    return os.makedev(*mount.device)


def _ask(descriptor: int, path: Path, *, lazy: bool) -> None:
    how = b"lazy " if lazy else b""
    value = how + b"%d " % descriptor + os.fsencode(path.name)
    os.setxattr(path.parent, _CLONE, value)


def _ask_within(descriptor: int, path: Path, *, lazy: bool) -> None:
    """Make the copy in a directory of our own beside ``path``."""
    own = path.parent / f".clone-{secrets.token_hex(16)}"
    own.mkdir(0o700)
    try:
        _ask(descriptor, own / "copy", lazy=lazy)
        path.hardlink_to(own / "copy")  # never over another one, as a rename might be
    finally:
        with suppress(FileNotFoundError):
            (own / "copy").unlink()
        own.rmdir()
