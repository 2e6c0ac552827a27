"""The image: all state that cannot be derived, in memory files.

Frames, page entries, inode records, names, and the byte strings that belong to inodes. Everything
else (free lists, reverse maps, rings, counters, open files) is rebuilt from it by a walk. The
order of stores keeps it readable at any instant: a page is stored before its entry is published,
a record's other words before its word 0, and each word by one aligned 64-bit store::

    inodes    one record an inode; the row is the inode number, 1 is the root
    dentries  one record a name: parent, inode, bytes of the name
    blobs     chains of chunks: targets of symbolic links, extended attributes
    leaves    the page entries
    frames    the pages in core
"""

import errno

from anonfs.mm._frames import FrameArena
from anonfs.mm._leaves import Leaves
from anonfs.mm._memfd import RecordTable

__all__ = ["BlobStore", "Image", "NameTable"]

_INODES = 1 << 22
_INODE_WIDTH = 16

_NAME_MAX = 255
_NAMES = 1 << 22
_PARENT, _INO, _LENGTH, _TEXT = 0, 1, 2, 3
_NAME_WIDTH = _TEXT + (_NAME_MAX + 1) // 8

_CHUNKS = 1 << 22
_USED, _NEXT, _DATA = 0, 1, 2
_CHUNK_WIDTH = 64
_CHUNK_BYTES = (_CHUNK_WIDTH - _DATA) * 8


class NameTable:
    """The names of the mount: which inode each means in which directory."""

    def __init__(self) -> None:
        self._table = RecordTable("dentries", _NAME_WIDTH, _NAMES, errno.ENOSPC)

    def add(self, parent: int, name: bytes, ino: int) -> int:
        """Record a name of at most 255 bytes; returns its row."""
        row = self._table.allocate()
        base = row * _NAME_WIDTH
        start = (base + _TEXT) * 8
        self._table.view[start : start + len(name)] = name
        self._table.words[base + _LENGTH] = len(name)
        self._table.words[base + _INO] = ino
        self._table.words[base + _PARENT] = parent
        return row

    def point(self, row: int, ino: int) -> None:
        """Let a name mean another inode, at one instant."""
        self._table.words[row * _NAME_WIDTH + _INO] = ino

    def remove(self, row: int) -> None:
        """Forget a name."""
        self._table.release(row)

    def walk(self) -> list[tuple[int, int, bytes, int]]:
        """All names: (row, parent, name, inode)."""
        found = []
        for row in self._table.live_rows():
            base = row * _NAME_WIDTH
            parent, ino, length = self._table.words[base : base + _TEXT].tolist()
            start = (base + _TEXT) * 8
            found.append((row, parent, bytes(self._table.view[start : start + length]), ino))
        return found

    def close(self) -> None:
        """Give the memory back."""
        self._table.close()


class BlobStore:
    """Byte strings as chains of chunks; a blob is named by its first chunk, 0 is the empty one."""

    def __init__(self) -> None:
        self._table = RecordTable("blobs", _CHUNK_WIDTH, _CHUNKS, errno.ENOSPC)

    def put(self, data: bytes) -> int:
        """Store ``data``; returns the blob.

        Raises:
            AnonfsError: ENOSPC; nothing is kept.
        """
        chunk = 0
        try:
            # The last chunk first, so that each is linked to one that is complete.
            for start in reversed(range(0, len(data), _CHUNK_BYTES)):
                piece = data[start : start + _CHUNK_BYTES]
                row = self._table.allocate()
                base = row * _CHUNK_WIDTH
                at = (base + _DATA) * 8
                self._table.view[at : at + len(piece)] = piece
                self._table.words[base + _NEXT] = chunk
                self._table.words[base + _USED] = len(piece)
                chunk = row
        except OSError:
            self.drop(chunk)
            raise
        return chunk

    def get(self, blob: int) -> bytes:
        """The bytes of ``blob``."""
        return b"".join(
            bytes(self._table.view[at : at + used])
            for base in self._chain(blob)
            for at, used in [((base + _DATA) * 8, self._table.words[base + _USED])]
        )

    def drop(self, blob: int) -> None:
        """Give the chunks of ``blob`` back."""
        for base in self._chain(blob):
            self._table.release(base // _CHUNK_WIDTH)

    def _chain(self, blob: int) -> list[int]:
        """The first words of the chunks of ``blob``, in order."""
        bases = []
        while blob:
            bases.append(blob * _CHUNK_WIDTH)
            blob = self._table.words[bases[-1] + _NEXT]
        return bases

    @property
    def chunks(self) -> int:
        """How many chunks are in use."""
        return self._table.live

    def close(self) -> None:
        """Give the memory back."""
        self._table.close()


class Image:
    """The state of a mount, with an arena of ``frames`` frames."""

    def __init__(self, frames: int) -> None:
        self.inodes = RecordTable("inodes", _INODE_WIDTH, _INODES, errno.ENOSPC)
        self.names = NameTable()
        self.blobs = BlobStore()
        self.leaves = Leaves()
        self.frames = FrameArena(frames)

    def close(self) -> None:
        """Give all memory back."""
        for part in (self.inodes, self.names, self.blobs, self.leaves, self.frames):
            part.close()
