"""Cloning on request: an extended attribute set on a directory makes a copy-on-write copy in it.

The value of ``user.anonfs.clone`` is ``FD NAME`` or ``lazy FD NAME``: the source is what the caller
has open as FD, so that whoever may clone a file is whoever can read it, as with FICLONE. That the
directory may be written is for the kernel to see to, who holds its lock until all is done, so
that nobody makes the same name meanwhile. Set on an empty file, ``FD`` makes that file the copy:
one that has no name goes with whoever has it open, at whatever moment he is killed. ``quiet``
before the FD says that the caller has had the source written back, and that nobody will store to it
until the answer has come, or that it does not matter to him, whose copy it is, what of that is in
it.

The copy is to have what a reader of the source sees at one moment, and of that the page cache has
more than we do where somebody stores. Whoever had the source open to write and has no more left
nothing behind there: his RELEASE comes when all that he stored has been written back. So if nobody
has it open to write the copy is made at once.

If somebody has, its dirty pages are written back, while everybody goes on. What is stored meanwhile
makes pages dirty once more, and what was written back early may be older than what came late. But
where all was clean when a write-back began it has nothing to write, and if no WRITE has come by the
time that it has ended, we have every byte of that moment. From then on a store begins with a fault
that makes its page dirty, and comes in a WRITE that finds it shared and copies it. So it is written
back again until there is nothing to write, or a few times::

    write back ──▶ WRITEs came: again ──▶ none came ──▶ copy
                        │ (they always come)
                        ▼
    drop page after page, stopping who touches one ──▶ copy ──▶ answer the stopped

Where stores never end all pages are dropped, which stops whoever touches one of them
(`Standstill`), and the copy is made when all are stopped or have touched nothing. It is the only
way without root, and before Linux 6.16, where a WRITE may be under way of a page that counts as
written back. For 1 GiB that is mapped it takes 70 ms, and they come back in 700; a moment takes 2.
One store is not seen by who waits for a moment: through a page that a thread of the same program is
just making dirty, for the kernel lets others write to it a little before it counts as that.

write(2) is kept out by the lock of the inode meanwhile, where it can be had.
"""

import errno
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import trio

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo
from anonfs.units import Ino
from anonfs.vfs import FileSystem, Inode, NewInode, check_empty, clone, clone_into
from anonfsd._descriptors import Descriptor, descriptor_of
from anonfsd._engine_lock import EngineLock
from anonfsd._inode_lock import InodeLock
from anonfsd._reclaim import Reclaim
from anonfsd._stopping import Stopping, writes_are_told
from anonfsd._tree import Tree
from anonfsd._unloading import Unloading
from anonfsd.procfs import scan

__all__ = ["CLONE", "Cloner", "Cloning", "Job"]

CLONE = b"user.anonfs.clone"

_REQUEST = re.compile(rb"(lazy )?(quiet )?(\d{1,9})(?: (.+))?", re.DOTALL)
_MODE = stat.S_IFREG | 0o600
_SEARCH = stat.S_IXGRP | stat.S_IXOTH
_RETRY_SECONDS = 0.25
_MOMENTS = 3


class Cloner(NamedTuple):
    """Who asks for a clone, and is to own it; ``pid`` is of the thread that does."""

    uid: int
    gid: int
    pid: int


class Job(NamedTuple):
    """What is asked for: a copy called ``name`` in ``into``, or in ``into`` itself."""

    into: Inode
    name: bytes | None
    cloner: Cloner
    lazy: bool = False
    quiet: bool = False


class Cloning:
    """Clones files of the mount with that ``device`` number, one at a time.

    ``inode_lock`` is for whoever has the ``limiter``. ``may_be_stored_to`` tells, with the lock
    held, whether somebody has an inode open to write.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        lock: EngineLock,
        stopping: Stopping,
        reclaim: Reclaim,
        unloading: Unloading,
        inode_lock: InodeLock,
        device: tuple[int, int],
        may_be_stored_to: Callable[[Inode], bool],
    ) -> None:
        self._filesystem = filesystem
        self._lock = lock
        self._reclaim = reclaim
        self._unloading = unloading
        self._inode_lock = inode_lock
        self._device = device
        self._stopping = stopping
        self._may_be_stored_to = may_be_stored_to
        self.limiter = trio.CapacityLimiter(1)
        self._source: Inode | None = None
        self._expected: set[Ino] = set()

    async def clone(self, into: Inode, value: bytes, cloner: Cloner) -> None:
        """Do what the attribute asks for when it is set on ``into``, a directory or an empty file.

        Raises:
            AnonfsError: EINVAL, a bad value, or a source that has no pages; EBADF, no descriptor
                that may be read; EXDEV, it is of another mount; EISDIR; EPERM, the caller cannot
                be seen; EACCES; EBUSY, the source is to be a copy, or the other way round; and
                those of `anonfs.vfs.clone` and `anonfs.vfs.clone_into`.
        """
        match = _REQUEST.fullmatch(value)
        if match is None or (match[4] is None) is (into.directory is not None):
            raise AnonfsError(errno.EINVAL, "write '[lazy] [quiet] FD', and for a directory NAME")
        lazy, quiet, fd, name = match.groups()
        job = Job(into, name, cloner, lazy is not None, quiet is not None)
        if name is not None:
            if Tree.is_name(into.ino, name):
                raise AnonfsError(errno.EEXIST)
            _require_search(into, cloner.uid)
            await self._in_thread(job, int(fd))
        else:
            check_empty(into)
            with self._expecting(into):
                await self._in_thread(job, int(fd))

    @contextmanager
    def _expecting(self, copy: Inode) -> Iterator[None]:
        """Whoever is to be a copy cannot be a source: its lock is held by who waits for us."""
        if copy is self._source:
            raise AnonfsError(errno.EBUSY, "being copied itself")
        self._expected.add(copy.ino)
        try:
            yield
        finally:
            self._expected.discard(copy.ino)

    async def _in_thread(self, job: Job, fd: int) -> None:
        await trio.to_thread.run_sync(self._clone, job, fd, limiter=self.limiter)

    def _clone(self, job: Job, fd: int) -> None:
        source, info = self._begin(job.cloner.pid, fd)
        make = partial(self._copy, source, job)
        try:
            if not self._made_at_once(source, make, quiet=job.quiet):
                self._make_stopped(source, info, make)
        finally:
            with self._lock:
                self.let_go()
        self._unloading.forget_attributes(job.into.ino)

    def _copy(self, source: Inode, job: Job) -> None:
        if job.name is None:
            clone_into(self._filesystem, source, job.into, lazy=job.lazy)
        else:
            new = NewInode(_MODE, job.cloner.uid, job.cloner.gid)
            clone(self._filesystem, source, job.into.ino, job.name, new, lazy=job.lazy)

    def _made_at_once(self, source: Inode, make: Callable[[], None], *, quiet: bool) -> bool:
        """Whether the copy was made; it was not where somebody may store to the source now."""
        with self._lock:
            if not quiet and self._may_be_stored_to(source):
                return False
            self._make(source, make)
            return True

    def _make_between(self, source: Inode, make: Callable[[], None]) -> bool:
        """Whether the copy was made, in a moment when nothing was dirty; a few are tried.

        With the lock of the inode held.
        """
        for _ in range(_MOMENTS):
            before = source.ctime
            if not (self._unloading.write_back(source.ino) and writes_are_told()):
                return False
            with self._lock:
                if source.ctime == before and not source.writes:
                    return self._try(source, make)
        return False

    def _make_stopped(self, source: Inode, info: AnonInodeInfo, make: Callable[[], None]) -> None:
        """Make the copy while nobody can store to the source, if there is no such moment."""
        with ExitStack() as stopped:
            with self._inode_lock.held(source.ino):
                if self._make_between(source, make):
                    return
                stopped.enter_context(self._stopping.stopped(info))
            self._stopping.settle(info)
            with self._lock:
                self._make(source, make)

    def _make(self, source: Inode, make: Callable[[], None]) -> None:
        """Make the copy, with the lock held; once no page is being cut where it is."""
        while not self._try(source, make):
            self._reclaim.room.wait(_RETRY_SECONDS)

    def _try(self, source: Inode, make: Callable[[], None]) -> bool:
        """Make the copy, with the lock held, unless a page is being cut where it is."""
        if self._filesystem.inodes.get(source.ino) is not source:
            raise AnonfsError(errno.ESTALE, "closed meanwhile")
        try:
            make()
        except AnonfsError as error:
            if error.errno != errno.EAGAIN:
                raise
            return False
        return True

    def _begin(self, pid: int, fd: int) -> tuple[Inode, AnonInodeInfo]:
        """The file that the caller has open, who keeps it open while he waits; the source now."""
        found = descriptor_of(pid, fd)
        if found.device != self._device and not (found.device is None and self._maps(pid, found)):
            raise AnonfsError(errno.EXDEV)
        if not found.is_readable:
            raise AnonfsError(errno.EBADF, "not open for reading")
        with self._lock:
            source = self._filesystem.inodes.get(Ino(found.ino))
            if source is not None and source.directory is not None:
                raise AnonfsError(errno.EISDIR)
            if source is None or source.info is None:
                raise AnonfsError(errno.EINVAL, "not a file with pages")
            self.take(source)
            return source, source.info

    def take(self, inode: Inode) -> None:
        """Whoever has the ``limiter`` is going to stop ``inode``; with the lock held.

        Raises AnonfsError: EBUSY, it is to be a copy itself, and its lock is held.
        """
        if inode.ino in self._expected:
            raise AnonfsError(errno.EBUSY, "to be a copy itself")
        self._source = inode

    def let_go(self) -> None:
        """What `take` took is stopped no more; with the lock held."""
        self._source = None
        self._reclaim.close_soon()

    def _maps(self, pid: int, found: Descriptor) -> bool:
        """Whether the caller maps, to read, the inode here that a descriptor of his may be of.

        Of a mapping /proc tells the device, also when no path leads to the mount any more.
        """
        return any(
            area.ino == found.ino and area.perms.startswith("r")
            for process in scan(self._device, [pid])
            for area in process.areas
        )


def _require_search(directory: Inode, uid: int) -> None:
    """A name can be made where the way to it is open; the kernel asked for no more than to write.

    Groups are not known here: who is of none may pass for one who is.
    """
    wanted = stat.S_IXUSR if uid == directory.uid else _SEARCH
    if uid != 0 and not directory.mode & wanted:
        raise AnonfsError(errno.EACCES)
