"""The file system: names and inodes, with the rules of POSIX for a file system in memory.

Every call is synchronous and either does all of its work or, when it raises, none. It knows no
caller: permissions are checked by the kernel (``default_permissions``), and whoever calls here has
looked up the inodes.
"""

import errno
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from anonfs.errors import AnonfsError, require
from anonfs.limits import Limits, Usage
from anonfs.mm import Image, Memory, PageCut, cutting
from anonfs.units import MAX_FILE_SIZE, Ino
from anonfs.vfs._cloning import check_kin, forget_kin
from anonfs.vfs._departing import Departing
from anonfs.vfs._directory import Directory, check_name
from anonfs.vfs._inode import Inode
from anonfs.vfs._promising import Promising
from anonfs.vfs._quotas import Quotas
from anonfs.vfs._reaping import Reaping
from anonfs.vfs._xattrs import Xattrs

__all__ = ["ROOT", "FileSystem", "NewInode"]

ROOT = Ino(1)
"""The inode number of the root, which FUSE prescribes."""

_NONE = Limits()
_ONE_FILE = Usage(files=1)
_PERMISSIONS = 0o7777
_TIMES = {"atime", "mtime", "ctime"}
_TIME_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class NewInode:
    """What an inode is made with; ``target`` is that of a symbolic link."""

    mode: int
    uid: int
    gid: int
    rdev: int = 0
    target: bytes = b""


class FileSystem:
    """The inodes of a mount by number, and the calls on them.

    Its `delete` is the delete operation of every dentry. ``opens`` counts the open file
    descriptions of all inodes. With ``overcommit`` sizes are free, see `Promising`, and in any case
    within ``limits``, see `Quotas`; those of users are not for root and the owner of the ``root``
    directory. Whoever is ``on_delete`` is told of each file with pages before it is deleted.
    """

    def __init__(
        self,
        image: Image,
        memory: Memory,
        root: NewInode,
        now: Callable[[], int] = time.time_ns,
        *,
        overcommit: bool = False,
        limits: Limits = _NONE,
    ) -> None:
        self.memory = memory
        self.inodes: dict[Ino, Inode] = {}
        self.opens = 0
        self.on_delete: Callable[[Inode], None] | None = None
        self.xattrs = Xattrs(image.blobs, now)
        self.quotas = Quotas(limits, exempt={0, root.uid})
        self.promising = Promising(memory, self.inodes, self.quotas, overcommit=overcommit)
        self.reaping = Reaping(self.xattrs)
        self.departing = Departing()
        self._image = image
        self.now = now
        inode = self._make(root, parent=ROOT)
        require(inode.ino == ROOT, "the root is not the first inode")
        inode.dentry.get()

    # -- finding ---------------------------------------------------------------------------

    def inode(self, ino: int) -> Inode:
        """The inode of that number. Raises AnonfsError: ESTALE."""
        inode = self.inodes.get(Ino(ino))
        if inode is None:
            raise AnonfsError(errno.ESTALE, f"no inode {ino}")
        return inode

    def directory(self, ino: int) -> tuple[Inode, Directory]:
        """The directory of that number. Raises AnonfsError: ESTALE, ENOTDIR."""
        inode = self.inode(ino)
        if inode.directory is None:
            raise AnonfsError(errno.ENOTDIR)
        return inode, inode.directory

    def lookup(self, parent: int, name: bytes) -> Inode:
        """The inode that ``name`` means in ``parent``; ``.`` and ``..`` are understood.

        Raises:
            AnonfsError: ENOENT, ENAMETOOLONG, ESTALE, ENOTDIR.
        """
        inode, directory = self.directory(parent)
        if name == b".":
            return inode
        if name == b"..":
            return self.inode(directory.parent)
        return self.inodes[directory.get(check_name(name))]

    @property
    def most_inodes(self) -> int:
        """How many inodes there can be."""
        return self._image.inodes.rows - 1

    # -- references ------------------------------------------------------------------------

    @staticmethod
    def remember(inode: Inode) -> None:
        """The kernel was handed ``inode`` once more."""
        if inode.lookups == 0:
            inode.dentry.get()
        inode.lookups += 1

    def forget(self, ino: int, times: int) -> None:
        """The kernel returns what `remember` counted; more than that is ignored."""
        inode = self.inodes.get(Ino(ino))
        if inode is None or inode.lookups == 0:
            return
        inode.lookups = max(0, inode.lookups - times)
        if inode.lookups == 0:
            inode.dentry.put()

    def open(self, inode: Inode) -> None:
        """An open file description of ``inode`` was made."""
        inode.opens += 1
        self.opens += 1
        inode.dentry.get()

    def release(self, inode: Inode) -> None:
        """An open file description went, and every mapping made with it."""
        inode.opens -= 1
        self.opens -= 1
        self.reaping.note_release(inode)
        self._put(inode)

    def _put(self, inode: Inode) -> None:
        """A name or an open file of ``inode`` has gone."""
        inode.dentry.put()
        if inode.dentry.count:
            self.departing.look(inode)

    def unmapped(self, inode: Inode, group: int) -> None:
        """A vm area of ``inode`` was closed, of a process of that process group."""
        self.reaping.note_close(inode, group)

    def delete(self, inode: Inode) -> None:
        """The last reference went: free the pages, the record and all that belongs to it."""
        require(not inode.names and not inode.opens, "an inode in use was deleted")
        if inode.info is not None and self.on_delete is not None:
            self.on_delete(inode)
        self._free(inode)

    def _free(self, inode: Inode) -> None:
        if inode.info is not None:
            self.memory.delete(inode.info)
        self.promising.forget(inode)
        forget_kin(self.inodes, inode)
        self._image.blobs.drop(inode.target)
        self._image.blobs.drop(inode.xattrs)
        del self.inodes[inode.ino]
        self._image.inodes.release(inode.ino)
        self.departing.gone(inode)

    # -- making ----------------------------------------------------------------------------

    def make(
        self,
        parent: int,
        name: bytes,
        new: NewInode,
        fill: Callable[[Inode], None] = lambda _: None,
    ) -> Inode:
        """A new inode of any type under ``name``; ``fill`` is called with it before it has that.

        In a setgid directory it gets the group of the directory, and a directory that bit too.

        Raises:
            AnonfsError: EEXIST, ENOSPC, ENAMETOOLONG, EINVAL for a name or a type that cannot be,
                EDQUOT for one file too many of its user; and what ``fill`` raises.
        """
        above, directory = self._vacant(parent, name)
        inode = self._make(_inherited(new, above), above.ino)
        try:
            fill(inode)
            directory.add(name, inode.ino)
        except OSError:
            inode.nlink = 0
            self._free(inode)
            raise
        inode.place = above.ino, name
        inode.dentry.get()
        if inode.directory is not None:
            above.nlink += 1
        above.touch(self.now())
        return inode

    def make_nameless(self, parent: int, new: NewInode) -> Inode:
        """A new file that has no name and never had one; the group is as if it were in ``parent``.

        Nothing refers to it: open it before anything else is done.

        Raises:
            AnonfsError: ENOSPC; EDQUOT, as `make`.
        """
        above, _ = self.directory(parent)
        inode = self._make(_inherited(new, above), above.ino)
        inode.nlink = 0
        return inode

    def _make(self, new: NewInode, parent: Ino) -> Inode:
        if stat.S_IFMT(new.mode) not in _TYPES:
            raise AnonfsError(errno.EINVAL, f"mode {new.mode:o} names no type of file")
        if len(new.target) >= 4096:
            raise AnonfsError(errno.ENAMETOOLONG, "target of a symbolic link")
        with self.quotas.charging(new.uid, _ONE_FILE):
            target = self._image.blobs.put(new.target)
            try:
                ino = Ino(self._image.inodes.allocate())
            except OSError:
                self._image.blobs.drop(target)
                raise
        inode = Inode(self._image, ino, self)
        inode.uid, inode.gid, inode.rdev, inode.target = new.uid, new.gid, new.rdev, target
        inode.size = len(new.target)
        inode.nlink = 2 if stat.S_ISDIR(new.mode) else 1
        inode.atime = self.now()
        inode.touch(inode.atime)
        inode.mode = new.mode
        if stat.S_ISDIR(new.mode):
            inode.directory = Directory(ino, parent, self._image.names)
        elif stat.S_ISREG(new.mode):
            inode.info = self.memory.create(ino)
        self.inodes[ino] = inode
        return inode

    def _vacant(self, parent: int, name: bytes) -> tuple[Inode, Directory]:
        """The directory ``parent``, which is there and has no ``name``."""
        above, directory = self.directory(parent)
        if directory.find(check_name(name)) is not None:
            raise AnonfsError(errno.EEXIST)
        if above.nlink == 0:
            raise AnonfsError(errno.ENOENT, "the directory was removed")
        return above, directory

    def link(self, ino: int, parent: int, name: bytes) -> Inode:
        """One more name for an inode.

        Raises:
            AnonfsError: EPERM for a directory, EEXIST, ENOENT, ENOSPC.
        """
        inode = self.inode(ino)
        if inode.directory is not None:
            raise AnonfsError(errno.EPERM, "a directory has one name")
        above, directory = self._vacant(parent, name)
        directory.add(name, inode.ino)
        inode.place = above.ino, name
        inode.dentry.get()
        inode.nlink += 1
        inode.ctime = self.now()
        above.touch(inode.ctime)
        return inode

    def readlink(self, ino: int) -> bytes:
        """Where a symbolic link points. Raises AnonfsError: EINVAL for what is none."""
        inode = self.inode(ino)
        if not stat.S_ISLNK(inode.mode):
            raise AnonfsError(errno.EINVAL)
        return self._image.blobs.get(inode.target)

    # -- unmaking --------------------------------------------------------------------------

    def unlink(self, parent: int, name: bytes) -> None:
        """Take away a name of a file; its data stays until the last user is gone.

        Raises:
            AnonfsError: ENOENT, EISDIR.
        """
        above, directory = self.directory(parent)
        inode = self.inodes[directory.get(check_name(name))]
        if inode.directory is not None:
            raise AnonfsError(errno.EISDIR)
        directory.remove(name)
        self.drop_name(above, inode)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Take away an empty directory. Raises AnonfsError: ENOENT, ENOTDIR, ENOTEMPTY."""
        above, directory = self.directory(parent)
        inode = self.inodes[directory.get(check_name(name))]
        if inode.directory is None:
            raise AnonfsError(errno.ENOTDIR)
        if len(inode.directory):
            raise AnonfsError(errno.ENOTEMPTY)
        directory.remove(name)
        self.drop_name(above, inode)

    def unlink_all(self, inodes: Iterable[Inode]) -> list[tuple[Ino, bytes]]:
        """Take away all names of files, wherever they are; returns directory and name of each.

        One pass over all names, however many ``inodes`` there are.
        """
        wanted = {inode.ino for inode in inodes if inode.directory is None}
        found = [
            (above.ino, name)
            for above in self.inodes.values()
            if above.directory is not None
            for name in above.directory.names_of(wanted)
        ]
        for parent, name in found:
            self.unlink(parent, name)
        return found

    def drop_name(self, above: Inode, inode: Inode) -> None:
        """The entry of ``inode`` in ``above`` is gone: count that."""
        now = self.now()
        above.touch(now)
        inode.ctime = now
        if inode.directory is not None:
            above.nlink -= 1
            inode.nlink = 0
        else:
            inode.nlink -= 1
        self._put(inode)

    # -- attributes ------------------------------------------------------------------------

    def set_attributes(self, inode: Inode, **changes: int) -> None:
        """Store mode (permission bits), uid, gid, atime, mtime, ctime as given.

        ctime is now unless it is given. A time beyond what a word of nanoseconds holds, as after
        the year 2262, becomes the last (or the first) that it does.

        Raises:
            AnonfsError: EDQUOT, a new owner may not have so much; nothing was changed.
        """
        if "uid" in changes:
            self.quotas.transfer(inode.uid, changes["uid"], self.promising.usage(inode))
        if "mode" in changes:
            changes["mode"] = inode.mode & ~_PERMISSIONS | changes["mode"] & _PERMISSIONS
        for name in changes.keys() & _TIMES:
            changes[name] = min(max(changes[name], -_TIME_MAX - 1), _TIME_MAX)
        inode.ctime = self.now()
        for name, value in changes.items():
            setattr(inode, name, value)

    @staticmethod
    def check_size(inode: Inode, size: int) -> None:
        """Whether ``inode`` can be given ``size`` bytes, or some of them written.

        Raises AnonfsError: EISDIR, EINVAL, EFBIG; EPERM, it is frozen.
        """
        if inode.directory is not None:
            raise AnonfsError(errno.EISDIR)
        if not inode.is_regular or size < 0:
            raise AnonfsError(errno.EINVAL)
        if size > MAX_FILE_SIZE:
            raise AnonfsError(errno.EFBIG)
        if inode.is_frozen:
            raise AnonfsError(errno.EPERM, "frozen")

    def truncate(self, inode: Inode, size: int, cut: PageCut | None = None) -> None:
        """Give ``inode`` a size in bytes; ``cut`` is as for `cutting.truncate`.

        Raises:
            AnonfsError: ENOSPC, EDQUOT, or see `check_size`; nothing was changed.
        """
        self.check_size(inode, size)
        self.promising.grow(inode, size)
        if size < inode.size and inode.info is not None:
            cutting.truncate(self.memory, inode.info, size, cut)
        inode.size = size
        self.promising.settle(inode)
        inode.touch(self.now())

    def punch(self, inode: Inode, offset: int, size: int) -> None:
        """Make a hole of ``size`` bytes at ``offset``, see `cutting.punch`.

        What it was promised beyond what it needs by now is for `Promising.settle` to give back.

        Raises AnonfsError: EINVAL, no file with pages; ENOSPC. Nothing was changed.
        """
        if inode.info is None:
            raise AnonfsError(errno.EINVAL, "not a file with pages")
        cutting.punch(self.memory, inode.info, offset, size)
        inode.touch(self.now())

    def written(self, inode: Inode, end: int) -> None:
        """Bytes up to ``end`` were written, while `Promising.writing` held."""
        inode.size = max(inode.size, end)
        inode.touch(self.now())

    # -- checking --------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Recount names and links from the image."""
        names = self._image.names.walk()
        links = dict.fromkeys(self.inodes, 0)
        for _, parent, name, ino in names:
            links[Ino(ino)] += 1
            above = self.inodes[Ino(parent)].directory
            require(above is not None and above.find(name) == ino, "a name differs from the image")
        entries = sum(len(i.directory) for i in self.inodes.values() if i.directory is not None)
        require(entries == len(names), "a name is not in the image")
        opens = sum(inode.opens for inode in self.inodes.values())
        require(opens == self.opens, "open files miscounted")
        for ino, inode in self.inodes.items():
            named = links[ino] + (ino == ROOT)
            require(inode.names == named, f"inode {ino}: {inode.names} names, {named} in the image")
            check_kin(self.inodes, inode)
        self.promising.check_invariants(list(self.inodes.values()))
        require(self._image.inodes.live_rows() == sorted(self.inodes), "inodes differ from image")


_TYPES = {
    stat.S_IFREG,
    stat.S_IFDIR,
    stat.S_IFLNK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
    stat.S_IFCHR,
    stat.S_IFBLK,
}


def _inherited(new: NewInode, above: Inode) -> NewInode:
    """``new`` as it is made in ``above``, which may hand down its group."""
    if not above.mode & stat.S_ISGID:
        return new
    inherited = stat.S_ISGID if stat.S_ISDIR(new.mode) else 0
    return replace(new, mode=new.mode | inherited, gid=above.gid)
