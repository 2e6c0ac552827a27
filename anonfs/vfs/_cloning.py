"""Cloning: a new file with the pages of another, copied when one side writes to them.

The copy is made whole or not at all: until its name is there nobody can have seen it, and what can
fail comes before. It is promised its pages like any other file, for each of them may have to be
copied one day.

Whose copy it is stays known while there is the *parent*; a number would soon mean another inode.
"""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING

from anonfs.errors import AnonfsError, require
from anonfs.units import Ino
from anonfs.vfs._inode import Inode

if TYPE_CHECKING:
    from anonfs.vfs._filesystem import FileSystem, NewInode

__all__ = ["check_empty", "check_kin", "clone", "clone_into", "forget_kin"]


def clone(
    filesystem: "FileSystem",
    source: Inode,
    parent: int,
    name: bytes,
    new: "NewInode",
    *,
    lazy: bool,
) -> Inode:
    """A copy-on-write copy of ``source``, a file with pages, under ``name`` in ``parent``.

    What the page cache of ``source`` has not written back is not in it. For ``lazy`` see
    `Memory.clone`.

    Raises:
        AnonfsError: EINVAL, it has none; EEXIST, ENOENT, ENOTDIR, ENAMETOOLONG for the name;
            ENOSPC, what it needs cannot be promised; EAGAIN, as `Memory.clone`. Nothing was
            changed.
    """

    def fill(copy: Inode) -> None:
        _fill(filesystem, source, copy, lazy=lazy)

    return filesystem.make(parent, name, new, fill)


def clone_into(filesystem: "FileSystem", source: Inode, copy: Inode, *, lazy: bool) -> None:
    """Make ``copy``, an empty file, a copy-on-write copy of ``source``, and private if that is.

    This is the seed's dup of a private mapping: `clone` without a name. A copy that is frozen shows
    one moment for ever, and is promised no more than the pages that it has by then.

    Raises:
        AnonfsError: EINVAL, one has no pages, or ``copy`` is not empty, or both are the same;
            ENOSPC, EDQUOT, EAGAIN as `clone`. Nothing was changed.
    """
    check_empty(copy)
    if copy is source:
        raise AnonfsError(errno.EINVAL, "a copy of itself")
    try:
        _fill(filesystem, source, copy, lazy=lazy)
    except OSError:
        if copy.info is not None:
            filesystem.memory.freeing.clear(copy.info)
        copy.size = 0
        filesystem.promising.settle(copy)
        raise
    copy.is_private = source.is_private
    filesystem.written(copy, copy.size)


def check_empty(copy: Inode) -> None:
    """Whether ``copy`` can become one of another file. Raises AnonfsError: EINVAL."""
    if copy.info is None or copy.size or copy.allocated or copy.writes or copy.locked:
        raise AnonfsError(errno.EINVAL, "not an empty file")


def _fill(filesystem: "FileSystem", source: Inode, copy: Inode, *, lazy: bool) -> None:
    """Give ``copy``, which is empty, the pages of ``source``."""
    if source.info is None or copy.info is None:
        raise AnonfsError(errno.EINVAL, "not a file with pages")
    info = filesystem.memory.clone(source.info, copy.ino, lazy=lazy)
    filesystem.memory.delete(copy.info)
    copy.info = info
    copy.size = source.size
    filesystem.promising.cover(copy)
    copy.parent = source.ino
    source.copies = source.copies or set()
    source.copies.add(copy)


def forget_kin(inodes: Mapping[Ino, Inode], inode: Inode) -> None:
    """``inode`` goes: it is nobody's parent and nobody's copy any more."""
    for copy in inode.copies or ():
        copy.parent = 0
    above = inodes[Ino(inode.parent)].copies if inode.parent else None
    if above is not None:
        above.discard(inode)


def check_kin(inodes: Mapping[Ino, Inode], inode: Inode) -> None:
    """``inode`` is known to its parent, and to its copies."""
    if inode.parent:
        copies = inodes[Ino(inode.parent)].copies
        require(copies is not None and inode in copies, f"inode {inode.ino}: not its parent's copy")
    for copy in inode.copies or ():
        known = inodes.get(copy.ino) is copy and copy.parent == inode.ino
        require(known, f"inode {inode.ino}: a copy has another parent")
