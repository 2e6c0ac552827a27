"""Overlays: files over a front store, which show what it has until they are written to.

An overlay is promised the pages of its size, as any other file: each of them may be written to.
"""

import errno
from typing import TYPE_CHECKING

from anonfs.errors import AnonfsError
from anonfs.mm import FrontStore, overlaying
from anonfs.vfs._inode import Inode

if TYPE_CHECKING:
    from anonfs.vfs._filesystem import FileSystem

__all__ = ["change_front", "discard", "overlay"]


def overlay(filesystem: "FileSystem", inode: Inode, store: FrontStore, size: int) -> None:
    """Let ``inode``, which is a new file, show ``size`` bytes of ``store``, which is its own now.

    Raises:
        AnonfsError: EINVAL, it is no file with pages; EEXIST, it is not empty, or is one already;
            ENOSPC, EDQUOT, EFBIG, as `FileSystem.truncate`. Nothing was changed.
    """
    info = inode.info
    if info is None:
        raise AnonfsError(errno.EINVAL, "not a file with pages")
    if inode.size or inode.writes or info.allocated or info.front is not None:
        raise AnonfsError(errno.EEXIST, "an overlay is made of an empty file")
    filesystem.truncate(inode, size)
    overlaying.overlay(filesystem.memory, info, store, size)


def change_front(
    filesystem: "FileSystem", inode: Inode, moment: Inode, store: FrontStore, size: int
) -> None:
    """Let ``inode``, an overlay, be one over ``store``: ``size`` bytes, those of ``moment``.

    ``moment`` is a copy of it, and what was stored since stays a change. It shows what it did.

    Raises:
        AnonfsError: EINVAL, it is none; ESTALE, it was discarded since, or ``moment`` is of another
            one or has another size; ENOSPC, there are no more leaves. Nothing was changed.
    """
    if inode.info is None or inode.info.front is None or moment.info is None:
        raise AnonfsError(errno.EINVAL, "not an overlay")
    if moment.size != size:
        raise AnonfsError(errno.ESTALE, "not what was copied")
    overlaying.change_front(filesystem.memory, inode.info, moment.info, store, size)
    filesystem.promising.settle(inode)


def discard(filesystem: "FileSystem", inode: Inode) -> None:
    """Let ``inode``, an overlay, be what it was when it was made.

    Raises:
        AnonfsError: EINVAL, it is none; ENOSPC, EDQUOT, it was cut, and cannot have its size again.
    """
    info = inode.info
    if info is None or info.front is None:
        raise AnonfsError(errno.EINVAL, "not an overlay")
    size = info.front.size
    if inode.size < size:
        filesystem.truncate(inode, size)
    overlaying.discard(filesystem.memory, info)
    # Without pages there is nothing to be cut, and the front ends here.
    filesystem.truncate(inode, size)
