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
            self._reached = {ino for _, _, ino in _walk(self._filesystem, None)}
            end = time.monotonic()
            self._until = end + _DUTY * (end - begin)
        return ino in self._reached


def names_of(filesystem: FileSystem, ino: Ino, uid: int) -> list[bytes]:
    """The names of an inode that user ``uid`` can get to, as paths from the root of the mount."""
    found = _walk(filesystem, uid)
    return [b"/".join(filter(None, (above, name))) for above, name, at in found if at == ino]


def _walk(filesystem: FileSystem, uid: int | None) -> Iterator[tuple[bytes, bytes, Ino]]:
    """Each name that ``uid`` can get to, None for everybody: its directory, itself, its inode."""
    ahead = [(b"", ROOT)]
    while ahead:
        path, above = ahead.pop()
        inode = filesystem.inodes[above]
        if inode.directory is None or not _may_search(inode, uid):
            continue
        for name, ino in inode.directory.snapshot():
            yield path, name, ino
            if filesystem.inodes[ino].directory is not None:
                ahead.append((b"/".join(filter(None, (path, name))), ino))


def _may_search(directory: Inode, uid: int | None) -> bool:
    """Whether ``uid`` may, in any group; it says no where only a group of theirs would do."""
    if uid == directory.uid:
        return bool(directory.mode & stat.S_IXUSR) or uid == 0
    return bool(directory.mode & stat.S_IXOTH) or uid == 0
