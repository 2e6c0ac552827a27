"""A mount without a kernel: the handlers, and what they work on."""

import errno
import os
import stat
from types import SimpleNamespace
from typing import Any

import trio
from pyfuse3 import FUSEError

from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, Inode, NewInode
from anonfsd._audience import Audience
from anonfsd._inspection import Inspection
from anonfsd._meminfo import MemStats
from anonfsd._room import Room
from anonfsd._tree import Tree
from anonfsd._tree_operations import TreeOperations
from tests.daemon.operations.fakes import FakeInspection, FakeRings
from tests.daemon.operations.requests import CTX, setattr_fields
from tests.daemon.paged import Paged

FRAMES = 64
SLACK = 256
"""Pages that are never promised."""


def _swap_out(_inode: Inode, _first: int, _last: int) -> None:
    raise AssertionError


class Mount:
    """Operations over a small file system, and an inode of each kind in it."""

    def __init__(self, *, overcommit: bool = False) -> None:
        self.paged = Paged(FRAMES, 2 * FRAMES + SLACK, overcommit=overcommit)
        self.image, self.memory = self.paged.image, self.paged.memory
        self.filesystem = self.paged.filesystem
        self.failures = 0
        room = Room(self.filesystem.departing, self.paged.lock)
        operations: Any = TreeOperations(self.filesystem, room, self._fail)
        operations.sizing, operations.reclaim = self.paged.sizing, self.paged.reclaim
        operations.rings = self.rings = FakeRings()
        operations.inspection = FakeInspection()
        rings: Any = self.rings
        inspection = Inspection(self.filesystem, rings, _swap_out, self.filesystem.promising.lock)
        stats = MemStats(self.filesystem, FRAMES * PAGE_SIZE, rings)
        audience = Audience(self.filesystem, 0)
        operations.tree = Tree(self.filesystem, stats, inspection, audience)
        self.ops = operations
        kinds = {
            b"link": NewInode(stat.S_IFLNK | 0o644, 0, 0, target=b"x"),
            b"file": NewInode(stat.S_IFREG | 0o644, 0, 0),
            b"dir": NewInode(stat.S_IFDIR | 0o644, 0, 0),
            b"fifo": NewInode(stat.S_IFIFO | 0o644, 0, 0),
        }
        self.inos = {name: self.filesystem.make(ROOT, name, new).ino for name, new in kinds.items()}

    def _fail(self) -> None:
        self.failures += 1

    def call(self, name: Any, *arguments: object) -> Any:
        """What a handler returns, or the name of the errno it answers with."""
        handler = getattr(self.ops, name)
        try:
            return trio.run(lambda: handler(*arguments), instruments=[self.paged.lock])
        except FUSEError as error:
            return errno.errorcode[error.errno]

    def open(self, name: bytes = b"file", flags: int = os.O_RDWR) -> int:
        """A handle of one of the inodes."""
        return int(self.call("open", self.inos[name], flags, CTX).fh)

    def read(self, fh: int, offset: int, size: int) -> Any:
        """What a READ of an open file is answered with, or the name of an errno."""
        return self.paged.read(self.ops.files.get(fh).inode.ino, offset, size)

    def write(self, fh: int, offset: int, data: bytes) -> Any:
        """The bytes that a WRITE took, or the name of an errno."""
        return self.paged.write(self.ops.files.get(fh).inode.ino, offset, data)

    def set_attributes(self, ino: int, **values: int) -> Any:
        fields = setattr_fields(**{name.removesuffix("_ns"): True for name in values})
        # Not EntryAttributes: that refuses what does not fit its fields.
        names = ("size", "mode", "uid", "gid", "atime_ns", "mtime_ns", "ctime_ns")
        attributes = SimpleNamespace(**{f"st_{name}": values.get(name, 0) for name in names})
        return self.call("setattr", ino, attributes, fields, None, CTX)

    def check(self) -> None:
        self.paged.check()
        for inode in self.filesystem.inodes.values():
            inode.check_invariants(areas=0)

    def close(self) -> None:
        """Give back the image's memory and descriptors."""
        self.paged.close()
