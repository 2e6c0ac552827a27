"""Renaming: a name moves, over another one or in exchange for it, at once or not at all.

What can be refused comes before anything is changed. A directory must not come to lie within
itself, which nobody could reach any more::

    a ── b ── c        a to b/c/d:  EINVAL        c to a/d:  fine
"""

import errno

from anonfs.errors import AnonfsError
from anonfs.vfs._directory import check_name
from anonfs.vfs._filesystem import ROOT, FileSystem
from anonfs.vfs._inode import Inode

__all__ = ["exchange", "rename"]


def rename(
    filesystem: FileSystem,
    parent: int,
    name: bytes,
    new_parent: int,
    new_name: bytes,
    *,
    replace: bool = True,
) -> None:
    """Move a name, over another one if ``replace``.

    Raises:
        AnonfsError: ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL for a directory that would
            move into itself. Nothing was changed.
    """
    above, source = filesystem.directory(parent)
    new_above, destination = filesystem.directory(new_parent)
    inode = filesystem.inodes[source.get(check_name(name))]
    over = destination.find(check_name(new_name))
    victim = filesystem.inodes[over] if over is not None else None
    if victim is not None and not replace:
        raise AnonfsError(errno.EEXIST)
    if victim is inode:
        return
    if new_above.nlink == 0:
        raise AnonfsError(errno.ENOENT, "the directory was removed")
    _refuse_loop(filesystem, inode, new_above)
    if victim is None:
        destination.add(new_name, inode.ino)
    else:
        _refuse_replacement(inode, victim)
        destination.point(new_name, inode.ino)
    source.remove(name)
    inode.place = new_above.ino, new_name
    _reparent(inode, above, new_above)
    if victim is not None:
        filesystem.drop_name(new_above, victim)
    _touch(filesystem, inode, above, new_above)


def exchange(
    filesystem: FileSystem, parent: int, name: bytes, other_parent: int, other_name: bytes
) -> None:
    """Swap what two names mean. Raises AnonfsError: ENOENT, EINVAL; nothing was changed."""
    above, source = filesystem.directory(parent)
    other_above, destination = filesystem.directory(other_parent)
    inode = filesystem.inodes[source.get(check_name(name))]
    other = filesystem.inodes[destination.get(check_name(other_name))]
    _refuse_loop(filesystem, inode, other_above)
    _refuse_loop(filesystem, other, above)
    source.point(name, other.ino)
    destination.point(other_name, inode.ino)
    inode.place, other.place = (other_above.ino, other_name), (above.ino, name)
    _reparent(inode, above, other_above)
    _reparent(other, other_above, above)
    _touch(filesystem, inode, above, other_above)
    _touch(filesystem, other, above, other_above)


def _refuse_loop(filesystem: FileSystem, inode: Inode, into: Inode) -> None:
    """A directory must not come to lie within itself."""
    if inode.directory is None:
        return
    ino = into.ino
    while ino != ROOT:
        above, directory = filesystem.directory(ino)
        if above is inode:
            raise AnonfsError(errno.EINVAL, "a directory cannot be moved into itself")
        ino = directory.parent


def _refuse_replacement(inode: Inode, victim: Inode) -> None:
    """What rename(2) says to ``inode`` taking the name of ``victim``."""
    if victim.directory is None:
        if inode.directory is not None:
            raise AnonfsError(errno.ENOTDIR)
        return
    if inode.directory is None:
        raise AnonfsError(errno.EISDIR)
    if len(victim.directory):
        raise AnonfsError(errno.ENOTEMPTY)


def _reparent(inode: Inode, above: Inode, new_above: Inode) -> None:
    if inode.directory is not None:
        inode.directory.parent = new_above.ino
        above.nlink -= 1
        new_above.nlink += 1


def _touch(filesystem: FileSystem, inode: Inode, above: Inode, new_above: Inode) -> None:
    now = filesystem.now()
    above.touch(now)
    new_above.touch(now)
    inode.ctime = now
