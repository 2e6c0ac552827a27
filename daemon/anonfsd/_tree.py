"""The tree: names and nodes of ``.anonfs/``, which shows the mount to whoever reads files.

    .anonfs/                    found by its name in the root, and not listed there
    ├── meminfo                 what the memory of the mount costs
    ├── swaps                   its swap areas
    ├── limits                  what files may come to, and what those of each user do
    ├── events                  what happens: not a view but a stream, see `EventStreams`
    ├── socket                  where processes attach and hand over files, a name
    └── inodes/
        └── 17/                 a regular file, by its inode number
            ├── its attributes: kind, pages, reserved, pagemap, ring, count, attaches,
            │   reap, lock, parent
            └── name            how it can be reached

Nodes are made when they are asked for and nobody holds them: what a node is lies in its number,
which no inode can have, so a FORGET of one means nothing to anybody::

    bit   63    62    61 … 8          7 … 0
          0     1     INO, or 0       which of its directory's; 0 is the directory itself

Who may read is for the kernel to check, as everywhere: the files of an inode have its owner, and
of its permissions those to read. So whoever can read the attributes can read these, but for files
in a directory that not everybody may search: those are their owner's alone.
"""

import errno
import re
import stat
import time
from dataclasses import dataclass

from pyfuse3 import EntryAttributes, InodeT, ModeT

from anonfs.errors import AnonfsError
from anonfs.units import PAGE_SIZE, Ino
from anonfs.vfs import ROOT, FileSystem, Inode
from anonfsd._audience import Audience
from anonfsd._inspection import Inspection
from anonfsd._meminfo import MemStats
from anonfsd._reach import Reach
from anonfsd._views import (
    InodeView,
    LimitsView,
    MemInfoView,
    NameView,
    SwapsView,
    TextView,
    View,
)

__all__ = ["EVENTS", "NAME", "Tree"]

NAME = b".anonfs"
"""The name of the tree in the root of the mount."""

_TREE = 1 << 62
_INO_SHIFT = 8
_WHICH = (1 << _INO_SHIFT) - 1
_TOP = (b"", b"meminfo", b"swaps", b"inodes", b"events", b"socket", b"limits")
_MEMINFO, _SWAPS, _INODES, _EVENTS, _SOCKET, _LIMITS = range(1, 7)
_OF_INODE = (b"", b"name", *Inspection.READABLE)
_NAME = 1
_PLAIN = re.compile(rb"[1-9]\d{0,15}")
_FOREVER = 300.0
_READ_ALL = 0o444
_READ_OWNER = 0o400

EVENTS = _TREE | _EVENTS
"""The number of the node ``events``."""


@dataclass(frozen=True, slots=True)
class Node:
    """A file or directory of the tree, the ``which`` of ``inode``'s directory or of the top."""

    number: int
    inode: Inode | None
    which: int

    @property
    def is_directory(self) -> bool:
        """Whether it has names below it."""
        return self.which == 0 or (self.inode is None and self.which == _INODES)


class Tree:
    """The nodes over ``filesystem``, what they show, and their attributes."""

    def __init__(
        self,
        filesystem: FileSystem,
        stats: MemStats,
        inspection: Inspection,
        audience: Audience,
        socket: str = "",
    ) -> None:
        self._audience = audience
        self._socket = socket
        self._filesystem = filesystem
        self._stats = stats
        self._inspection = inspection
        self._reach = Reach(filesystem)
        self._made = time.time_ns()

    @staticmethod
    def owns(number: int) -> bool:
        """Whether ``number`` is of a node, whether or not there is one."""
        return number >> 62 == 1

    @staticmethod
    def is_name(parent: int, name: bytes) -> bool:
        """Whether ``name`` in ``parent`` is the tree's: it, or something in it."""
        return Tree.owns(parent) or (parent == ROOT and name == NAME)

    def node(self, number: int) -> Node:
        """The node of that number. Raises AnonfsError: ESTALE."""
        ino, which = (number & ~_TREE) >> _INO_SHIFT, number & _WHICH
        inode = self._filesystem.inodes.get(Ino(ino))
        names = _OF_INODE if ino else _TOP
        if which >= len(names) or (ino and (inode is None or not inode.is_regular)):
            raise AnonfsError(errno.ESTALE, f"no node {number:x}")
        return Node(number, inode, which)

    def lookup(self, parent: int, name: bytes) -> Node:
        """The node that ``name`` means in ``parent``.

        Raises:
            AnonfsError: ENOENT, ENOTDIR, ESTALE.
        """
        if not self.owns(parent):
            return self.node(_TREE)
        above = self.node(parent)
        if above.inode is None and above.which == _INODES:
            return self._of_inode(name)
        number = next((found for entry, found in self.entries(above) if entry == name), None)
        if number is None:
            raise AnonfsError(errno.ENOENT)
        return self.node(number)

    def _of_inode(self, name: bytes) -> Node:
        """The directory of the inode whose number ``name`` spells in the one way it is listed."""
        if not _PLAIN.fullmatch(name):
            raise AnonfsError(errno.ENOENT)
        try:
            return self.node(_number(int(name), 0))
        except AnonfsError:
            raise AnonfsError(errno.ENOENT) from None

    def entries(self, node: Node) -> list[tuple[bytes, int]]:
        """The names in a directory, and the numbers of the nodes they mean. Raises ENOTDIR."""
        if not node.is_directory:
            raise AnonfsError(errno.ENOTDIR)
        if node.which == _INODES:
            inodes = self._filesystem.inodes.values()
            return [(b"%d" % i.ino, _number(i.ino, 0)) for i in inodes if i.is_regular]
        ino, names = (node.inode.ino, _OF_INODE) if node.inode else (0, _TOP)
        return [(name, _number(ino, which)) for which, name in enumerate(names) if name]

    @staticmethod
    def parent(node: Node) -> int:
        """The number of the directory that a directory is in."""
        if node.inode is not None:
            return _number(0, _INODES)
        return _TREE if node.which else ROOT

    def view(self, node: Node) -> View:
        """What a file shows. Raises AnonfsError: EISDIR; ENXIO, it is a stream."""
        if node.is_directory:
            raise AnonfsError(errno.EISDIR)
        if node.inode is not None and node.which == _NAME:
            return NameView(self._filesystem, node.inode)
        if node.inode is not None:
            name = _OF_INODE[node.which]
            return InodeView(self._filesystem, self._inspection, node.inode, name)
        if node.which == _MEMINFO:
            return MemInfoView(self._stats, self._inspection)
        if node.which == _SWAPS:
            return SwapsView(self._stats)
        if node.which == _LIMITS:
            return LimitsView(self._filesystem.quotas, self._audience)
        if node.which == _SOCKET:
            return TextView(self._socket)
        raise AnonfsError(errno.ENXIO, "a stream")

    def attributes(self, node: Node) -> EntryAttributes:
        """What stat(2) shows of a node: sizes are 0, as in /proc."""
        owner = node.inode or self._filesystem.inode(ROOT)
        entry = EntryAttributes()
        entry.st_ino = InodeT(node.number)
        entry.generation = 0
        entry.entry_timeout = entry.attr_timeout = _FOREVER if node.inode is None else 0
        entry.st_mode = ModeT(self._mode(node))
        # One link says nothing about the directories in a directory, to those who count on it.
        entry.st_nlink = 1
        entry.st_uid, entry.st_gid = owner.uid, owner.gid
        entry.st_rdev = entry.st_size = entry.st_blocks = 0
        entry.st_blksize = PAGE_SIZE
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._made
        return entry

    def _mode(self, node: Node) -> int:
        if node.is_directory:
            return stat.S_IFDIR | 0o555
        if node.inode is None:
            return stat.S_IFREG | _READ_ALL
        readable = node.inode.mode & _READ_ALL
        if readable & ~_READ_OWNER and not self._reach.includes(node.inode.ino):
            readable &= _READ_OWNER
        return stat.S_IFREG | readable


def _number(ino: int, which: int) -> int:
    return _TREE | ino << _INO_SHIFT | which
