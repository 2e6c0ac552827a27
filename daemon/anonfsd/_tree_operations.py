"""The request handlers of a mount with a tree: they answer for the tree, and pass on all else.

A request is for the tree if its inode number is of a node, or its handle of one of the open files
here, or if it names the tree in the root. Nothing in the tree can be changed, by nobody.
"""

import errno
import itertools
import os
import select
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    PollHandle,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    XAttrNameT,
)

from anonfs.vfs import FileSystem
from anonfsd._answers import answered
from anonfsd._entries import attributes
from anonfsd._files import Handles
from anonfsd._operations import Operations
from anonfsd._room import Room
from anonfsd._tree import Node, Tree
from anonfsd._watch import Watch, WatchedFile

__all__ = ["TreeOperations"]

_FIRST_HANDLE = 1 << 62  # handles of the tree and of all else must differ
_MOST_HELD = 256 << 20
_LARGEST_READ = 128 << 10  # what a socket takes for certain, see `Connection`
_READABLE = select.POLLIN | select.POLLRDNORM
_WRITABLE = select.POLLOUT | select.POLLWRNORM
_CHANGED = select.POLLPRI | select.POLLERR


class OpenNode:
    """An open directory of the tree, and the entries it had when it was last read from its top."""

    def __init__(self, tree: Tree, node: Node) -> None:
        self._tree = tree
        self._node = node
        self.entries: list[tuple[bytes, int]] = []

    def rewind(self) -> None:
        """Take the entries anew. Raises AnonfsError: ENOTDIR."""
        dots = [(b".", self._node.number), (b"..", self._tree.parent(self._node))]
        self.entries = [*dots, *self._tree.entries(self._node)]


class TreeOperations(Operations):
    """The handlers of `Operations`, and those of ``tree``, which is set before the first request.

    `watch` has to run beside them.
    """

    tree: Tree

    def __init__(self, filesystem: FileSystem, room: Room, on_failure: Callable[[], None]) -> None:
        super().__init__(filesystem, room, on_failure)
        self.watch = Watch()
        numbers = itertools.count(_FIRST_HANDLE)
        self._views = Handles[WatchedFile](numbers)
        self._listings = Handles[OpenNode](numbers)

    # -- names -----------------------------------------------------------------------------

    @answered
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """LOOKUP."""
        if Tree.is_name(parent_inode, name):
            return self.tree.attributes(self.tree.lookup(parent_inode, name))
        return await super().lookup(parent_inode, name, ctx)

    @answered
    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        """CREATE."""
        _refuse_new(parent_inode, name)
        return await super().create(parent_inode, name, mode, flags, ctx)

    @answered
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKNOD."""
        _refuse_new(parent_inode, name)
        return await super().mknod(parent_inode, name, mode, rdev, ctx)

    @answered
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        """MKDIR."""
        _refuse_new(parent_inode, name)
        return await super().mkdir(parent_inode, name, mode, ctx)

    @answered
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """SYMLINK."""
        _refuse_new(parent_inode, name)
        return await super().symlink(parent_inode, name, target, ctx)

    @answered
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """LINK."""
        _refuse_node(inode)
        _refuse_new(new_parent_inode, new_name)
        return await super().link(inode, new_parent_inode, new_name, ctx)

    @answered
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """UNLINK."""
        _refuse_name(parent_inode, name)
        await super().unlink(parent_inode, name, ctx)

    @answered
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """RMDIR."""
        _refuse_name(parent_inode, name)
        await super().rmdir(parent_inode, name, ctx)

    @answered
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """RENAME."""
        _refuse_name(parent_inode_old, name_old)
        _refuse_new(parent_inode_new, name_new)
        names = parent_inode_old, name_old, parent_inode_new, name_new
        await super().rename(*names, flags, ctx)

    # -- attributes ------------------------------------------------------------------------

    @answered
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """GETATTR."""
        if Tree.owns(inode):
            return self.tree.attributes(self.tree.node(inode))
        return await super().getattr(inode, ctx)

    @answered
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """SETATTR."""
        _refuse_node(inode)
        return await super().setattr(inode, attr, fields, fh, ctx)

    @answered
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """GETXATTR."""
        if Tree.owns(inode):
            raise FUSEError(errno.ENODATA)
        return await super().getxattr(inode, name, ctx)

    @answered
    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext
    ) -> None:
        """SETXATTR."""
        _refuse_node(inode)
        await super().setxattr(inode, name, value, ctx)

    @answered
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """LISTXATTR."""
        return [] if Tree.owns(inode) else await super().listxattr(inode, ctx)

    @answered
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        """REMOVEXATTR."""
        _refuse_node(inode)
        await super().removexattr(inode, name, ctx)

    # -- files -----------------------------------------------------------------------------

    @answered
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """OPEN. What a file of the tree shows is what it is now; see `WatchedFile`."""
        if not Tree.owns(inode):
            return await super().open(inode, flags, ctx)
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            raise FUSEError(errno.EPERM)
        if sum(len(file.text) for file in self._views) > _MOST_HELD:
            raise FUSEError(errno.ENFILE)
        view = self.tree.view(self.tree.node(inode))
        file = await WatchedFile.opened(view, ctx.uid)
        # Past the page cache: the end of the file is where it is found, whatever its size says.
        return FileInfo(fh=self._views.add(file), direct_io=True, keep_cache=False)

    # The handlers of files pass on what is not the tree's as it is, for they are called often.

    def read(self, fh: FileHandleT, off: int, size: int) -> Coroutine[Any, Any, bytes]:
        """READ; no more than a part of what is asked for, where that is much."""
        known = fh in self._views
        return self._read_view(fh, off, size) if known else super().read(fh, off, size)

    @answered
    async def _read_view(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return await self._views.get(fh).read(off, min(size, _LARGEST_READ))

    def flush(self, fh: FileHandleT) -> Coroutine[Any, Any, None]:
        """FLUSH."""
        return self._nothing(fh) if fh in self._views else super().flush(fh)

    def fsync(self, fh: FileHandleT, datasync: bool) -> Coroutine[Any, Any, None]:
        """FSYNC."""
        return self._nothing(fh) if fh in self._views else super().fsync(fh, datasync)

    @answered
    async def _nothing(self, fh: FileHandleT) -> None:
        self._views.get(fh)

    def release(self, fh: FileHandleT) -> Coroutine[Any, Any, None]:
        """RELEASE."""
        return self._release_view(fh) if fh in self._views else super().release(fh)

    @answered
    async def _release_view(self, fh: FileHandleT) -> None:
        self.watch.remove(self._views.remove(fh))

    @answered
    async def poll(
        self, inode: InodeT, fh: FileHandleT, poll_handle: PollHandle | None, ctx: RequestContext
    ) -> int:
        """POLL: every file can be read, those of the tree may have changed since they were."""
        del ctx
        if not Tree.owns(inode):
            return _READABLE | _WRITABLE
        file = self._views.get(fh)
        if await file.has_changed():
            return _READABLE | _CHANGED
        if poll_handle is not None and fh in self._views:
            self.watch.add(file, poll_handle)
        return _READABLE

    # -- directories -----------------------------------------------------------------------

    @answered
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """OPENDIR."""
        if not Tree.owns(inode):
            return await super().opendir(inode, ctx)
        opened = OpenNode(self.tree, self.tree.node(inode))
        opened.rewind()
        return self._listings.add(opened)

    @answered
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """READDIRPLUS: the entries of when the directory was opened or rewound."""
        if fh not in self._listings:
            await super().readdir(fh, start_id, token)
            return
        opened = self._listings.get(fh)
        if start_id == 0:
            opened.rewind()
        for at in range(start_id, len(opened.entries)):
            name, number = opened.entries[at]
            entry = self._entry_of(number)
            if entry is not None and not pyfuse3.readdir_reply(
                token, FileNameT(name), entry, at + 1
            ):
                return

    def _entry_of(self, number: int) -> EntryAttributes | None:
        """The attributes of an entry, None if it has gone since the directory was read."""
        if not Tree.owns(number):
            return attributes(self.filesystem.inode(number))
        try:
            return self.tree.attributes(self.tree.node(number))
        except OSError:
            return None

    @answered
    async def releasedir(self, fh: FileHandleT) -> None:
        """RELEASEDIR."""
        if fh in self._listings:
            self._listings.remove(fh)
        else:
            await super().releasedir(fh)

    @answered
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """FSYNCDIR."""
        if fh not in self._listings:
            await super().fsyncdir(fh, datasync)


def _refuse_new(parent: int, name: bytes) -> None:
    """A name that is to be made or replaced."""
    if Tree.is_name(parent, name):
        raise FUSEError(errno.EPERM if Tree.owns(parent) else errno.EEXIST)


def _refuse_name(parent: int, name: bytes) -> None:
    """A name that is to be taken away."""
    if Tree.is_name(parent, name):
        raise FUSEError(errno.EPERM)


def _refuse_node(number: int) -> None:
    """A node that is to be changed."""
    if Tree.owns(number):
        raise FUSEError(errno.EPERM)
