"""Rings: keeps the share rings in step with /proc.

An inspection looks first, so what it says is true at that moment. Besides:

========================  ===========================  =========================================
what happens              with the proc connector      without
========================  ===========================  =========================================
fork, exec, exit          a look at those processes    the background pass
a file is opened          the pass, at the openers     the pass
a descriptor is closed    soon a look at who opened    the pass
                          it, and the pass
last RELEASE              no look: the last mapping has gone
========================  ===========================  =========================================

The background pass looks soon after a descriptor was opened or closed and otherwise ever more
rarely, never for more than a small share of the time. It is needed with events, too: mmap and
munmap make none, and a descriptor may come from anywhere. Looks come one after the other, whoever
asks for them, so that each is an update of the one before.

A look takes the processor, and the address space of whom it looks at, from who is just going on
after a close: so it comes a moment later, and for no more than a small share of the time as well.
What is noted is so with the engine's lock held, by whatever thread.

    measured, making and unmaking segments of a page with a look at each close: 3.1 ms, else 1.7
"""

import errno
import logging
from collections.abc import Callable, Collection
from typing import TypeVar

import trio

from anonfs.errors import AnonfsError
from anonfs.units import Ino
from anonfs.vfs import FileSystem, Inode
from anonfs.vm import AddressSpaces, ProcessMaps, SharedOperations, ShareRing, VmOperations
from anonfsd._alarm import Alarm
from anonfsd._attachments import Attachments
from anonfsd._changed_processes import ChangedProcesses
from anonfsd._proc_events import ProcConnector
from anonfsd.pagemap import loaded_ptes
from anonfsd.procfs import scan
from anonfsd.smaps import dirty_bytes

__all__ = ["Rings"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_SOON = 0.2
_AFTER_CLOSE = 0.005
_SELDOM = 30.0
_LOOK_SECONDS = 5.0
_LOOK_THREADS = 8
_DUTY = 20  # a look is followed by a pause of at least so many times its duration
_BATCH = 256  # processes a look: an inspection may come in between
_UNCONCERNED = 0.005


class Rings:
    """The rings of the inodes of ``filesystem``, whose mount has ``device`` (major, minor)."""

    def __init__(
        self,
        filesystem: FileSystem,
        device: tuple[int, int],
        operations: VmOperations | None = None,
    ) -> None:
        self.spaces = AddressSpaces(operations or SharedOperations(), self._mappable)
        self.processes = ChangedProcesses(self.spaces.has_areas, self.spaces.is_exact)
        self._told = False
        self.attachments: Attachments | None = None
        self._filesystem = filesystem
        self._device = device
        self._lock = trio.Lock()
        self._counting_dirty = trio.Lock()
        self._begun = self._done = self._failed = 0
        self._changed = Alarm()
        self._closed = Alarm()
        self._closers: set[int] = set()
        self._anybody = True
        # Looks come one after the other: more threads than one are for those that are stuck.
        self._limiter = trio.CapacityLimiter(_LOOK_THREADS)

    def _mappable(self, ino: Ino) -> Inode | None:
        """An inode that can have areas: one that is open.

        A look that began before the last RELEASE thus cannot bring areas back after it.
        """
        inode = self._filesystem.inodes.get(ino)
        return inode if inode is not None and inode.opens else None

    async def look(self) -> None:
        """Bring all rings to what /proc shows at some instant after this call began.

        Raises:
            AnonfsError: EAGAIN, a process did not let itself be looked at in time.
        """
        wanted = self._begun + 1
        async with self._lock:
            if self._done >= wanted:
                return  # Another caller's look began after this call.
            if self._failed >= wanted:
                raise AnonfsError(errno.EAGAIN, "/proc could not be read in time")
            self._begun += 1
            number, self._failed = self._begun, self._begun
            if self.attachments is not None and self.spaces.unresolved:
                await self._read_proc(self.attachments.settle)
            since = self.spaces.moment
            seen = await self._scan()
            # Bookkeeping from here on: nothing waits until the rings are complete.
            self.spaces.update(seen, complete=True, since=since)
            if self.attachments is not None:
                self.attachments.tend()
            self._failed, self._done = 0, number

    async def _look_at(self, pids: Collection[int]) -> None:
        """Bring the areas of ``pids`` to what /proc shows; of threads, those of their processes.

        Raises AnonfsError: EAGAIN.
        """
        async with self._lock:
            since = self.spaces.moment
            seen = await self._scan(self.spaces.with_sharers(pids))
            exact = [pid for pid in pids if self.spaces.is_exact(pid)]
            self.spaces.update(seen, complete=False, since=since)
        if any(not self.spaces.has_areas(pid) for pid in exact):
            # After an exec the memory may be that of a child whose fork was no reason to look.
            self.note_change()
        openers = self.processes.openers
        if not openers.isdisjoint(pids):
            # Threads opened files, and their processes fork.
            openers.update(process.pid for process in seen if process.exists)
            openers.difference_update(process.pid for process in seen if not process.exists)

    async def loaded_ptes(self, inode: Inode) -> int:
        """How many PTEs of the areas of ``inode`` are loaded now. Raises AnonfsError: EAGAIN."""
        ring = ShareRing(inode)
        areas = [(area.pid, area.start, area.end) for area in ring if area.pid is not None]
        return await self._read_proc(lambda: loaded_ptes(areas))

    async def dirty_bytes(self) -> int | None:
        """What the mappings of all files hold that was not written back; None if nobody knows.

        Raises AnonfsError: EAGAIN.
        """
        with trio.move_on_after(_LOOK_SECONDS):
            # One at a time: each walks the page tables of whole processes.
            async with self._counting_dirty:
                pids = self.spaces.pids
                return await self._read_proc(lambda: dirty_bytes(self._device, pids))
        raise AnonfsError(errno.EAGAIN, "others are looking for dirty pages")

    async def _scan(self, pids: Collection[int] | None = None) -> list[ProcessMaps]:
        own = self.spaces.owners
        return await self._read_proc(lambda: scan(self._device, pids, own))

    async def _read_proc(self, read: Callable[[], _T]) -> _T:
        """Read /proc; a thread that is stuck there is left to itself.

        A process that maps or unmaps something may wait, with its address space locked, for a file
        system that does not answer, and whoever looks at it waits with it.
        """
        with trio.move_on_after(_LOOK_SECONDS):
            return await trio.to_thread.run_sync(
                read, limiter=self._limiter, abandon_on_cancel=True
            )
        raise AnonfsError(errno.EAGAIN, "/proc could not be read in time")

    def note_open(self, pid: int) -> None:
        """Process or thread ``pid``, 0 if it is not known, opened a file and may map it."""
        if self._told and pid:
            self.processes.openers.add(pid)
            self._changed.set()
        else:
            self.note_change()

    def note_close(self, opener: int) -> None:
        """Somebody closed a descriptor of what ``opener`` opened, maybe since it is mapped."""
        if self._told and opener in self.processes.openers and not self.spaces.is_exact(opener):
            self._closers.add(opener)
            self._closed.set()
        self.note_change()

    def note_change(self) -> None:
        """Areas may have come or gone, nobody knows whose."""
        self._anybody = True
        self._changed.set()

    def note_last_release(self, inode: Inode) -> None:
        """No open file of ``inode`` is left, so no mapping is."""
        self.spaces.drop(inode)

    async def follow(self, connector: ProcConnector) -> None:
        """Look at processes at their forks, execs and exits; runs until there are no more events.

        Whoever calls it has subscribed before the first file was opened.
        """
        self._told = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_at_changed)
            nursery.start_soon(self._look_at_closers)
            try:
                while True:
                    await trio.lowlevel.wait_readable(connector)
                    connector.drain(self.processes)
                    if not self.processes.some:
                        # Waiting costs each fork on the machine a wake-up of us: not for nothing.
                        await trio.sleep(_UNCONCERNED)
            except OSError as error:
                log.warning("no more events of processes: %s", error)
            finally:
                self._told = False
            self.note_change()
            nursery.cancel_scope.cancel()

    async def _look_at_changed(self) -> None:
        changed = self.processes
        while True:
            await changed.wait()
            if changed.take_all():
                log.info("events of processes were lost: looking at all of them")
                pids = None
            else:
                pids = changed.take(_BATCH)
            try:
                await (self.look() if pids is None else self._look_at(pids))
            except OSError as error:
                log.info("the rings are behind: %s", error)
                self.note_change()
            finally:
                changed.done()

    async def _look_at_closers(self) -> None:
        while True:
            await self._closed.wait()
            await trio.sleep(_AFTER_CLOSE)
            self._closed.clear()
            closers, self._closers = self._closers, set()
            begin = trio.current_time()
            try:
                await self._look_at(closers)
            except OSError as error:
                log.info("the rings are behind: %s", error)
                self.note_change()
            await trio.sleep(_DUTY * (trio.current_time() - begin))

    async def look_now_and_then(self) -> None:
        """The background pass; runs for ever."""
        pause = _SOON
        while True:
            with trio.move_on_after(pause):
                await self._changed.wait()
                pause = _SOON
            self._changed.clear()
            if not self._filesystem.opens:
                pause = _SELDOM
                continue
            begin = trio.current_time()
            try:
                await self._pass(everybody=self._anybody or pause >= _SELDOM)
            except OSError as error:
                log.info("the rings are behind: %s", error)
            took = trio.current_time() - begin
            await trio.sleep(max(_SOON, _DUTY * took))
            pause = min(_SELDOM, 2 * pause)

    async def _pass(self, *, everybody: bool) -> None:
        if self._told and not everybody:
            await self._look_at(frozenset(self.processes.openers))
            return
        self._anybody = False
        try:
            await self.look()
        except OSError:
            self._anybody = True
            raise
