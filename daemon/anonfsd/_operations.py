"""The request handlers: each translates a request, makes one call, translates back.

Those of page faults, READ and WRITE, are not here: see `Requests`. A handler that does not wait
runs without a break, for `AtOnce` in the thread that received the request, with no event loop; one
that waits does so in `Rings` or in a thread of `Paging` or `Reclaim`, which look again afterwards.
Handles and inode numbers come from the kernel, yet are checked: a wrong one is answered with an
errno.
"""

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Sequence

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from anonfs.units import PAGE_SIZE, Ino
from anonfs.vfs import NAME_MAX, FileSystem, Inode, NewInode, exchange, rename
from anonfsd._answers import answered
from anonfsd._cloning import CLONE, Cloner, Cloning
from anonfsd._entries import attributes
from anonfsd._files import Handles, OpenDirectory, OpenFile
from anonfsd._inspection import Caller, Inspection
from anonfsd._reclaim import Reclaim
from anonfsd._rings import Rings
from anonfsd._room import Room
from anonfsd._sizing import Sizing

__all__ = ["Operations"]

_NOREPLACE, _EXCHANGE = 1, 2
_NAMELESS = b"/"  # what the kernel calls an O_TMPFILE
_TRUNCATE_THREADS = 4


class Operations(pyfuse3.Operations):
    """A mount of ``filesystem``.

    ``rings``, ``inspection``, ``sizing``, ``reclaim`` and ``cloning`` are set before the first
    request, for the circle has to be closed somewhere: reclaim needs the connection, and that needs
    its handlers. What finds no room waits for ``room``.
    ``on_failure`` is called when the state turns out to be broken.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    rings: Rings
    inspection: Inspection
    sizing: Sizing
    reclaim: Reclaim
    cloning: Cloning

    def __init__(self, filesystem: FileSystem, room: Room, on_failure: Callable[[], None]) -> None:
        super().__init__()
        self.filesystem = filesystem
        self.room = room
        numbers = itertools.count(1)
        self.files = Handles[OpenFile](numbers)
        self.directories = Handles[OpenDirectory](numbers)
        self.failed = False
        self._on_failure = on_failure
        self._truncating = trio.CapacityLimiter(_TRUNCATE_THREADS)

    def fail(self) -> None:
        """End the mount: see `answered`."""
        self.failed = True
        self._on_failure()

    # -- names -----------------------------------------------------------------------------

    @answered
    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """LOOKUP."""
        del ctx
        return self._entry(self.filesystem.lookup(parent_inode, name))

    def _entry(self, inode: Inode) -> EntryAttributes:
        """The answer that hands ``inode`` to the kernel, which counts it as a lookup."""
        self.filesystem.remember(inode)
        return attributes(inode)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """FORGET: not answered, so there is nobody to tell of an error."""
        with contextlib.suppress(FUSEError):
            await self._forget(inode_list)

    @answered
    async def _forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for ino, times in inode_list:
            self.filesystem.forget(ino, times)

    @answered
    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        """CREATE: make a file and open it. TMPFILE: the same, and it has no name."""
        new = NewInode(stat.S_IFREG | stat.S_IMODE(mode), ctx.uid, ctx.gid)
        if name == _NAMELESS:
            inode = self.filesystem.make_nameless(parent_inode, new)
        else:
            inode = self.filesystem.make(parent_inode, name, new)
        return self._open(inode, flags, ctx), self._entry(inode)

    @answered
    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        """MKNOD: a file, a fifo, a socket, a device."""
        new = NewInode(mode, ctx.uid, ctx.gid, rdev)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            raise FUSEError(errno.EINVAL)
        return self._entry(self.filesystem.make(parent_inode, name, new))

    @answered
    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        """MKDIR."""
        new = NewInode(stat.S_IFDIR | stat.S_IMODE(mode), ctx.uid, ctx.gid)
        return self._entry(self.filesystem.make(parent_inode, name, new))

    @answered
    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """SYMLINK."""
        new = NewInode(stat.S_IFLNK | 0o777, ctx.uid, ctx.gid, target=target)
        return self._entry(self.filesystem.make(parent_inode, name, new))

    @answered
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """READLINK."""
        del ctx
        return FileNameT(self.filesystem.readlink(inode))

    @answered
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """LINK."""
        del ctx
        return self._entry(self.filesystem.link(inode, new_parent_inode, new_name))

    @answered
    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """UNLINK."""
        del ctx
        self.filesystem.unlink(parent_inode, name)

    @answered
    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        """RMDIR."""
        del ctx
        self.filesystem.rmdir(parent_inode, name)

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
        """RENAME, with RENAME_NOREPLACE or RENAME_EXCHANGE."""
        del ctx
        names = parent_inode_old, name_old, parent_inode_new, name_new
        if flags == _EXCHANGE:
            exchange(self.filesystem, *names)
        elif flags in {0, _NOREPLACE}:
            rename(self.filesystem, *names, replace=flags == 0)
        else:
            raise FUSEError(errno.EINVAL)

    # -- attributes ------------------------------------------------------------------------

    @answered
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """GETATTR."""
        del ctx
        return attributes(self.filesystem.inode(inode))

    @answered
    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """SETATTR: chmod, chown, truncate, utimens."""
        del fh, ctx
        changed = self.filesystem.inode(inode)
        if fields.update_size:
            await self._truncate(changed, attr.st_size)
        changes = {
            name: value
            for name, wanted, value in (
                ("mode", fields.update_mode, attr.st_mode),
                ("uid", fields.update_uid, attr.st_uid),
                ("gid", fields.update_gid, attr.st_gid),
                ("atime", fields.update_atime, attr.st_atime_ns),
                ("mtime", fields.update_mtime, attr.st_mtime_ns),
                ("ctime", fields.update_ctime, attr.st_ctime_ns),
            )
            if wanted
        }
        if changes:
            self.filesystem.set_attributes(changed, **changes)
        return attributes(changed)

    async def _truncate(self, inode: Inode, size: int) -> None:
        if not self.sizing.truncate(inode, size):
            await trio.to_thread.run_sync(
                self.sizing.truncate_waiting, inode, size, limiter=self._truncating
            )

    @answered
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """STATFS: what files can have in all, and what of it is left."""
        del ctx
        promising = self.filesystem.promising
        data = StatvfsData()
        data.f_bsize = data.f_frsize = PAGE_SIZE
        data.f_blocks = promising.capacity
        data.f_bfree = data.f_bavail = promising.free
        data.f_files = self.filesystem.most_inodes
        data.f_ffree = data.f_favail = data.f_files - len(self.filesystem.inodes)
        data.f_namemax = NAME_MAX
        return data

    # -- files -----------------------------------------------------------------------------

    @answered
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """OPEN; where it truncates, a SETATTR has come before."""
        return self._open(self.filesystem.inode(inode), flags, ctx)

    def _open(self, inode: Inode, flags: FlagT, ctx: RequestContext) -> FileInfo:
        file = OpenFile(inode, ctx.pid, flags & os.O_ACCMODE != os.O_RDONLY)
        self.filesystem.open(inode)
        self.rings.note_open(ctx.pid)
        # The page cache stays: nothing but the kernel's own requests changes a file.
        return FileInfo(fh=self.files.add(file), keep_cache=True)

    def may_be_stored_to(self, inode: Inode) -> bool:
        """Whether somebody has ``inode`` open to write, or has a mapping made when it was."""
        return any(file.writes and file.inode is inode for file in self.files)

    @answered
    async def flush(self, fh: FileHandleT) -> None:
        """FLUSH: a descriptor was closed, often right after its file was mapped."""
        self.rings.note_close(self.files.get(fh).pid)

    @answered
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        """FSYNC: the kernel has written back, and there is no stabler place."""
        del datasync
        self.files.get(fh)

    @answered
    async def release(self, fh: FileHandleT) -> None:
        """RELEASE: the last descriptor and the last mapping of an open are gone."""
        file = self.files.remove(fh)
        if file.inode.opens == 1:
            self.rings.note_last_release(file.inode)
        else:
            self.rings.note_close(file.pid)
        self.filesystem.release(file.inode)

    # -- directories -----------------------------------------------------------------------

    @answered
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """OPENDIR."""
        del ctx
        opened, _ = self.filesystem.directory(inode)
        handle = OpenDirectory(opened, [])
        return self.directories.add(handle)

    @answered
    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """READDIRPLUS: the entries of when the directory was opened or rewound."""
        handle = self.directories.get(fh)
        directory = handle.inode.directory
        if directory is None:
            raise FUSEError(errno.ENOTDIR)
        if start_id == 0:
            handle.entries = directory.snapshot()
        dots = [(b".", handle.inode.ino), (b"..", directory.parent)]
        entries = [*dots, *handle.entries] if start_id < len(dots) else handle.entries
        skipped = len(dots) if start_id >= len(dots) else 0
        for at in range(start_id - skipped, len(entries)):
            name, ino = entries[at]
            if name not in {b".", b".."} and directory.find(name) != ino:
                continue
            if not self._add_entry(token, name, ino, at + skipped + 1):
                return

    def _add_entry(self, token: ReaddirToken, name: bytes, ino: Ino, following: int) -> bool:
        inode = self.filesystem.inode(ino)
        added = pyfuse3.readdir_reply(token, FileNameT(name), attributes(inode), following)
        if added and name not in {b".", b".."}:
            self.filesystem.remember(inode)
        return added

    @answered
    async def releasedir(self, fh: FileHandleT) -> None:
        """RELEASEDIR."""
        self.directories.remove(fh)

    @answered
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """FSYNCDIR: nothing to do."""
        del datasync
        self.directories.get(fh)

    # -- extended attributes ---------------------------------------------------------------

    @answered
    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """GETXATTR."""
        read = self.filesystem.inode(inode)
        if self.inspection.owns(name):
            return await self.inspection.get(read, name, ctx.uid)
        if not read.xattrs:
            # The kernel asks for security.capability at each write(2).
            raise FUSEError(errno.ENODATA)
        return self.filesystem.xattrs.get(read, name)

    @answered
    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext
    ) -> None:
        """SETXATTR."""
        written = self.filesystem.inode(inode)
        if name == CLONE:
            with self.inspection.long_request():
                await self.cloning.clone(written, value, Cloner(ctx.uid, ctx.gid, ctx.pid))
        elif self.inspection.owns(name):
            await self.inspection.set(written, name, value, Caller(ctx.uid, ctx.pid))
        else:
            self.filesystem.xattrs.set(written, name, value)

    @answered
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """LISTXATTR."""
        del ctx
        listed = self.filesystem.inode(inode)
        kept = self.filesystem.xattrs.all(listed)
        others = (name for name in kept if not self.inspection.owns(name))
        return [XAttrNameT(name) for name in (*self.inspection.names(listed), *others)]

    @answered
    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        """REMOVEXATTR."""
        changed = self.filesystem.inode(inode)
        if self.inspection.owns(name):
            await self.inspection.remove(changed, name, Caller(ctx.uid, ctx.pid))
        else:
            self.filesystem.xattrs.remove(changed, name)
