"""Paths: what an inode is called, found from below.

Each inode knows where it was last given a name (`Inode.place`): a hint, which is looked up before
it is believed. So a path costs a step for each directory on it, and an inode whose last name was
taken away while it has older ones is taken for nameless.
"""

from collections.abc import Mapping

from anonfs.units import Ino
from anonfs.vfs._filesystem import ROOT
from anonfs.vfs._inode import Inode

__all__ = ["path_of"]

_PATH_MAX = 4096


def path_of(inodes: Mapping[Ino, Inode], inode: Inode) -> bytes | None:
    """The path of ``inode`` from the root; None if it has none, or none that a call could take."""
    parts: list[bytes] = []
    room = _PATH_MAX
    while inode.ino != ROOT:
        if inode.place is None:
            return None
        parent, name = inode.place
        above = inodes.get(parent)
        if above is None or above.directory is None or above.directory.find(name) != inode.ino:
            return None
        room -= len(name) + 1
        if room < 0:
            return None
        parts.append(name)
        inode = above
    return b"/".join(reversed(parts))
