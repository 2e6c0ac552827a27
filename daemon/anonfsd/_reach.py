"""Reach: which inodes have a name that everybody can get to.

An inode's own permissions say less than they seem to: a file that all may read is still nobody's
business in a directory that only its owner may search. The tree has every inode at a place of its
own, so it has to ask for what the way to a name would have asked for.
"""

import stat
import time
from collections.abc import Iterator

from anonfs.units import Ino
from anonfs.vfs import ROOT, FileSystem

__all__ = ["Reach"]

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
            self._reached = set(self._walk())
            end = time.monotonic()
            self._until = end + _DUTY * (end - begin)
        return ino in self._reached

    def _walk(self) -> Iterator[Ino]:
        ahead = [ROOT]
        while ahead:
            inode = self._filesystem.inodes[ahead.pop()]
            if inode.directory is None or not inode.mode & stat.S_IXOTH:
                continue
            for _, ino in inode.directory.snapshot():
                yield ino
                if self._filesystem.inodes[ino].directory is not None:
                    ahead.append(ino)
