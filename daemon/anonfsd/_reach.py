"""Reach: which names of inodes somebody, or everybody, can get to.

An inode's own permissions say less than they seem to: a file that all may read is still nobody's
business in a directory that only its owner may search. The tree has every inode at a place of its
own, so it has to ask for what the way to a name would have asked for.
"""

import stat
import time
from collections.abc import Iterator

from anonfs.units import Ino
from anonfs.vfs import ROOT, FileSystem, Inode

__all__ = ["Reach", "names_of"]

_DUTY = 20  # what was found holds for so many times as long as it took to find it


class Reach:
    """The inodes of ``filesystem`` with a name below directories that everybody may search."""

    def __init__(self, filesystem: FileSystem) -> None:
        self._filesystem = filesystem
        self._reached: set[Ino] = set()
        self._until = 0.0

    def includes(self, ino: Ino) -> bool:
        """Whether everybody could look ``ino`` up by a name, now or a few milliseconds ago."""
        begin = time.monotonic()
        if begin >= self._until:
            self._reached = {found for _, _, found in _walk(self._filesystem, None)}
            end = time.monotonic()
            self._until = end + _DUTY * (end - begin)
        return ino in self._reached


def names_of(filesystem: FileSystem, ino: Ino, uid: int) -> list[bytes]:
    """The names of an inode that user ``uid`` can get to, as paths from the root of the mount."""
    ways: dict[Ino, tuple[Ino, bytes]] = {}
    found: list[tuple[Ino, bytes]] = []
    for above, name, at in _walk(filesystem, uid):
        if at == ino:
            found.append((above, name))
        elif filesystem.inodes[at].directory is not None:
            ways[at] = above, name
    return [_path(ways, above, name) for above, name in found]


def _path(ways: dict[Ino, tuple[Ino, bytes]], above: Ino, name: bytes) -> bytes:
    parts = [name]
    while above != ROOT:
        above, name = ways[above]
        parts.append(name)
    return b"/".join(reversed(parts))


def _walk(filesystem: FileSystem, uid: int | None) -> Iterator[tuple[Ino, bytes, Ino]]:
    """Each name that ``uid`` can get to, None for everybody: its directory, itself, its inode.

    A directory comes before what is in it.
    """
    ahead = [ROOT]
    while ahead:
        inode = filesystem.inodes[ahead.pop()]
        if inode.directory is None or not _may_search(inode, uid):
            continue
        for name, ino in inode.directory.snapshot():
            yield inode.ino, name, ino
            if filesystem.inodes[ino].directory is not None:
                ahead.append(ino)


def _may_search(directory: Inode, uid: int | None) -> bool:
    """Whether ``uid`` may, whatever their groups."""
    if uid == 0:
        return True
    wanted = stat.S_IXUSR if uid == directory.uid else stat.S_IXGRP | stat.S_IXOTH
    if uid is None:
        wanted |= stat.S_IXUSR
    return directory.mode & wanted == wanted
