"""Paging: READ and WRITE of files with pages, and what else has to wait for swap.

Called by threads, so that waiting is waiting: the lock is held for bookkeeping and given up for
I/O. After each wait everything is looked at again, and after the last look the engine call follows
with no wait in between. A page in a frame is answered with the lock held, since its frame could
be somebody else's as soon as it is not.

A front is not waited for here: what it cannot give at once is put off, see `PuttingOff`.
"""

import errno
import logging
import struct
import time
from collections.abc import Callable
from typing import Protocol

from anonfs.errors import AnonfsError
from anonfs.mm import (
    AnonInodeInfo,
    BadPageError,
    Budget,
    FrontLoad,
    LoadedPages,
    OnePageRead,
    PageRead,
    Parts,
    Streams,
    Work,
)
from anonfs.units import PAGE_SHIFT, Ino, pages_for
from anonfs.vfs import FileSystem, Inode
from anonfs.vm import ToldOperations
from anonfsd._answers import Failing, errno_for
from anonfsd._engine_lock import EngineLock
from anonfsd._front_threads import FrontThreads
from anonfsd._punching import Punching
from anonfsd._putting_off import AtFront, FrontNeededError, Late, PuttingOff
from anonfsd._reclaim import Reclaim
from anonfsd._standstill import Standstill, StoppedRead, Waiting

__all__ = ["Paging", "Receiver"]

log = logging.getLogger(__name__)

_HOLD_SECONDS = 1.0
_FAILING_SECONDS = 10.0
_LARGEST_WINDOW = 1024
_MOST_TOLD = 1000  # inodes
_MOST_HELD = 6  # of the request threads, see `Requests`
_WRITTEN = struct.Struct("=II")  # fuse_write_out: size, padding


class Receiver(Protocol):
    """The thread that received a request, and goes on receiving until it lets another one do so."""

    def reply(self, data: bytes | memoryview) -> None:
        """Answer the request."""

    def let_lead(self) -> None:
        """This thread is going to wait."""

    def later(self) -> Waiting:
        """What answers the request when this thread has long taken another one."""

    def begin(self, read: OnePageRead) -> bool:
        """Have ``read`` done and `Paging.end_read` called then, by whoever receives; or False."""


class Paging:
    """Answers page faults of ``filesystem``; broken invariants are told to ``failing``.

    ``read_ahead`` is called with an inode number, a first page and a count; ``operations`` are told
    of the faults. What waits for fronts does so in ``fronts``.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        lock: EngineLock,
        budget: Budget,
        reclaim: Reclaim,
        failing: Failing,
        read_ahead: Callable[[int, int, int], None],
        operations: ToldOperations,
        fronts: FrontThreads,
    ) -> None:
        self._filesystem = filesystem
        self._memory = filesystem.memory
        self._lock = lock
        self._budget = budget
        self._reclaim = reclaim
        self._failing = failing
        self._read_ahead = read_ahead
        self._operations = operations
        self._streams = Streams(min(_LARGEST_WINDOW, budget.pages // 32))
        self.standstill = Standstill()
        self._putting_off = PuttingOff(lock, filesystem.memory.loaded, fronts)
        self.punching = Punching(
            filesystem, lock, reclaim, failing, self._prepare, self._putting_off
        )
        self._held = 0
        self._told: dict[Ino, set[tuple[int, int]]] = {}

    @property
    def loaded(self) -> LoadedPages:
        """What the kernel's page cache holds."""
        return self._memory.loaded

    def serves(self, ino: int) -> bool:
        """Whether ``ino`` is a file with pages."""
        inode = self._filesystem.inodes.get(ino)  # type: ignore[call-overload]
        return inode is not None and inode.info is not None

    def is_nameless(self, ino: int) -> bool:
        """Whether ``ino`` is a file with pages that has no name any more."""
        inode = self._filesystem.inodes.get(ino)  # type: ignore[call-overload]
        return inode is not None and inode.info is not None and not inode.nlink

    # -- reading ---------------------------------------------------------------------------

    def read(
        self, ino: int, offset: int, size: int, thread: Receiver, *, own: bool, late: bool = False
    ) -> int:
        """Answer a READ; with ``own`` that of a file that the daemon has open itself.

        A short answer would move the end of the file: all there is is given. A standstill stops it,
        unless it is ``late`` already.
        """
        try:
            self._read(ino, offset, size, thread, own=own, late=late)
        except Exception as error:  # noqa: BLE001  whatever it is, the kernel waits for an answer
            return errno_for(self._failing, "read", error)
        return 0

    def _read(
        self, ino: int, offset: int, size: int, thread: Receiver, *, own: bool, late: bool
    ) -> None:
        with self._lock:
            inode, info = self.pages_of(ino)
            first = offset >> PAGE_SHIFT
            if not late and self._stops_or_waits(info, offset, size, thread, own=own):
                return
            inode, info = self.pages_of(ino)
            size = min(size, inode.size - offset)
            if size <= 0:
                thread.reply(b"")
                return
            count = pages_for(offset + size) - first
            self._filesystem.promising.hand_out(inode, first, count)
            found = self._memory.reading.begin(info, offset, size)
            self._memory.loaded.load(info, first, count, touched=not own)
            self._reclaim.wake()
            if not own:
                self._note_stream(inode, info, first, count)
                if self._operations.log.wanted:
                    self._operations.fault(inode, first, count)
            if isinstance(found, memoryview):
                thread.reply(found)
                return
            if isinstance(found, OnePageRead):
                if thread.begin(found):
                    return
                thread.let_lead()
                self.perform(found)
            elif not self._read_pages(found, thread):
                self._put_off_read(info, offset, size, thread, own=own)
                return
        thread.reply(found.data)

    def _read_pages(self, found: PageRead, thread: Receiver) -> bool:
        """Do it, unless it has to wait for a front; then it is abandoned. Returns which."""
        waits_here = not found.waits_for_front or isinstance(thread, AtFront)
        if found.has_to_wait and not waits_here:
            found.abandon()
            return False
        thread.let_lead()
        if waits_here:
            self.perform(found)
            return True
        return self._lock.try_at_once(found)

    def _put_off_read(
        self, info: AnonInodeInfo, offset: int, size: int, thread: Receiver, *, own: bool
    ) -> None:
        """Have a READ answered when its front has."""
        first = offset >> PAGE_SHIFT
        self._putting_off.put_off(
            info,
            (first, pages_for(offset + size) - first),
            thread.later(),
            lambda late: self.read(info.ino, offset, size, late, own=own, late=True),
        )

    def _stops_or_waits(
        self, info: AnonInodeInfo, offset: int, size: int, thread: Receiver, *, own: bool
    ) -> bool:
        """Whether a standstill stops a READ; else it was held back where the budget is exceeded."""
        if self._stops(info, offset, size, thread, own=own):
            return True
        if own or not self._budget.is_exceeded:
            return False
        first = offset >> PAGE_SHIFT
        self._hold_back(info, first, pages_for(offset + size) - first, thread)
        _, info = self.pages_of(info.ino)
        return self._stops(info, offset, size, thread, own=own)

    def _stops(
        self, info: AnonInodeInfo, offset: int, size: int, thread: Receiver, *, own: bool
    ) -> bool:
        """Whether a standstill stops a READ, which is answered when it is over."""
        if self.standstill.info is not info:
            return False
        first = offset >> PAGE_SHIFT
        pages = first, pages_for(offset + size) - first
        read = StoppedRead(info.ino, offset, size, own, pages, thread.later())
        return self.standstill.stops(read)

    def go_on(self, reads: list[StoppedRead]) -> None:
        """Answer READs that were stopped by a standstill; for a thread, without the lock."""
        for read in reads:
            late = Late(read.waiting)
            error = self.read(read.ino, read.offset, read.size, late, own=read.own, late=True)
            if error:
                read.waiting.reply_error(error)

    def end_read(self, read: OnePageRead, page: memoryview, error: OSError | None) -> int:
        """The ``page`` of a read that was begun has come, or not: then its data are the answer."""
        try:
            with self._lock:
                self._end_read(read, page, error)
        except Exception as failure:  # noqa: BLE001  as in `read`
            return errno_for(self._failing, "read", failure)
        return 0

    def _end_read(self, read: OnePageRead, page: memoryview, error: OSError | None) -> None:
        try:
            read.take(page, error)
        except BadPageError as bad:
            read.abandon()
            self._tell_of(bad)
            raise
        read.finish()

    def _note_stream(self, inode: Inode, info: AnonInodeInfo, first: int, count: int) -> None:
        """Read ahead, if this READ goes on where others ended and there is room."""
        for start, pages in self._streams.note(info, first, count):
            if start << PAGE_SHIFT < inode.size and not self._budget.is_exceeded:
                self._read_ahead(inode.ino, start, pages)

    def pages_of(self, ino: int) -> tuple[Inode, AnonInodeInfo]:
        """The file of that number, with its page table. Raises AnonfsError: ESTALE, EINVAL, EIO."""
        if self._failing.failed:
            raise AnonfsError(errno.EIO)
        inode = self._filesystem.inode(ino)
        if inode.info is None:
            raise AnonfsError(errno.EINVAL, "not a file with pages")
        return inode, inode.info

    def _hold_back(self, info: AnonInodeInfo, first: int, count: int, thread: Receiver) -> None:
        """Let reclaim catch up, for a while at the most, and never where it waits for us."""
        loaded = self._memory.loaded
        if self._held >= _MOST_HELD or loaded.is_unloading(info, first, count):
            return
        thread.let_lead()
        loaded.hold(info, first, count, 1)
        try:
            # The hand passes over what is held back; a swap-out does not.
            self._wait_while(
                lambda: (
                    self._budget.is_exceeded
                    and not self._reclaim.is_stuck
                    and not loaded.is_unloading(info, first, count)
                )
            )
        finally:
            loaded.hold(info, first, count, -1)
            self._reclaim.is_stuck = False

    def _wait_while(self, condition: Callable[[], bool]) -> None:
        """Wait for reclaim while ``condition`` holds, but not for long."""
        deadline = time.monotonic() + _HOLD_SECONDS
        self._held += 1
        self._memory.counters.throttled += 1
        try:
            while condition() and (left := deadline - time.monotonic()) > 0:
                self._reclaim.wake()
                self._reclaim.room.wait(left)
        finally:
            self._held -= 1

    # -- writing ---------------------------------------------------------------------------

    def write(
        self, ino: int, offset: int, data: memoryview, thread: Receiver, *, back: bool
    ) -> int:
        """Answer a WRITE, with ``back`` one that the page cache writes back."""
        try:
            with self._lock:
                try:
                    self._write(ino, offset, data, thread, back=back)
                except FrontNeededError:
                    self._put_off_write(ino, offset, bytes(data), thread, back=back)
                    return 0
            thread.reply(_WRITTEN.pack(len(data), 0))
        except Exception as error:  # noqa: BLE001  as in `read`
            return errno_for(self._failing, "write", error)
        return 0

    def _put_off_write(
        self, ino: int, offset: int, data: bytes, thread: Receiver, *, back: bool
    ) -> None:
        """Have a WRITE taken when its front has answered."""
        _, info = self.pages_of(ino)
        first = offset >> PAGE_SHIFT
        self._putting_off.put_off(
            info,
            (first, pages_for(offset + len(data)) - first),
            thread.later(),
            lambda late: self.write(ino, offset, memoryview(data), late, back=back),
            len(data),
        )

    def _write(
        self, ino: int, offset: int, data: memoryview, thread: Receiver, *, back: bool
    ) -> None:
        inode, info = self.pages_of(ino)
        filesystem, end = self._filesystem, offset + len(data)
        filesystem.check_size(inode, end)
        if not data:
            return
        with filesystem.promising.writing(inode, offset, len(data)):
            self._hold_back_write(thread)
            self._prepare(info, [(offset, len(data))], thread)
            self._memory.write(info, offset, data)
            self.punching.renew(info, offset, len(data))
            filesystem.written(inode, end)
        first = offset >> PAGE_SHIFT
        count = pages_for(end) - first
        if back:
            # Mostly because reclaim is about to drop them: they are not loaded anew.
            self._memory.loaded.note_write_back(info, first, count)
            inode.was_mapped = True
        else:
            self._memory.loaded.load(info, first, count, touched=False)
        self._memory.counters.writeback_requests += 1
        self._memory.counters.writeback_pages += count
        self._reclaim.note_write()

    def _hold_back_write(self, thread: Receiver) -> None:
        """Let reclaim catch up, for a while at the most."""
        if self._reclaim.is_behind and self._held < _MOST_HELD:
            thread.let_lead()
            self._wait_while(lambda: self._reclaim.is_behind)

    def _prepare(self, info: AnonInodeInfo, parts: Parts, thread: Receiver) -> None:
        """See to it that writes find frames, and the rest of the pages they write a part of.

        Raises FrontNeededError.
        """
        memory = self._memory
        patience = time.monotonic() + _FAILING_SECONDS
        while True:
            wanted = memory.frames_wanted(info, parts)
            if wanted > memory.frames.free:
                thread.let_lead()
                self._make_room(wanted, patience)
                continue
            load = memory.work_to_complete(info, parts)
            if load is None:
                return
            if isinstance(load, FrontLoad):
                self._load_front(load, thread)
                continue
            thread.let_lead()
            self.perform(load)

    def _load_front(self, load: FrontLoad, thread: Receiver) -> None:
        """Have the rest of pages come from the front."""
        if load.run_at_once():
            load.finish()
        elif isinstance(thread, AtFront):
            self.perform(load)
            if thread.expired:
                raise AnonfsError(errno.EIO, "the file under an overlay answered late")
        else:
            load.abandon()
            raise FrontNeededError

    def _make_room(self, wanted: int, patience: float) -> None:
        """Have frames freed; a disk that fails has until ``patience`` to recover.

        The kernel takes a page whose WRITE failed for clean, so the page would be lost.
        """
        try:
            self._reclaim.make_room(wanted)
        except AnonfsError as error:
            if error.errno != errno.EIO or time.monotonic() > patience:
                raise
            self._reclaim.room.wait(_HOLD_SECONDS)

    def perform(self, work: Work) -> None:
        """Do ``work`` with the lock held, as `EngineLock.perform`, and log what is lost."""
        try:
            self._lock.perform(work)
        except BadPageError as error:
            self._tell_of(error)
            raise

    def _tell_of(self, error: BadPageError) -> None:
        """Log each bad page once, for the kernel asks again, and so do programs."""
        bad = set(zip(error.pages, error.slots, strict=True))
        if len(self._told) > _MOST_TOLD:
            self._told.clear()
        told = self._told.setdefault(error.ino, set())
        if not bad <= told:
            told |= bad
            log.error("%s", error.what)
