"""A mount from its beginning to its end.

The end comes by unmounting: `umount` elsewhere, or a signal. Then, in this order, so that nothing
waits for an answer that nobody will give: the mount point is freed, lazily if it is in use; the
background tasks end while requests are still answered; the requests end; the device is closed,
upon which whoever still has the mount open or mapped gets errors for what is not resident.
"""

import logging
import os
import signal
import stat
from collections.abc import Callable
from contextlib import ExitStack

import trio

from anonfs.client import Mount, mount_at
from anonfs.mm import Budget, Image, Memory
from anonfs.swap import SwapArea
from anonfs.units import format_size
from anonfs.vfs import FileSystem, NewInode, path_of
from anonfs.vm import EventLog, MappedInode, ShareRing, ToldOperations
from anonfsd._at_once import AtOnce
from anonfsd._attach_server import AttachServer
from anonfsd._attachments import Attachments
from anonfsd._audience import Audience
from anonfsd._cloning import Cloning
from anonfsd._connection import Connection
from anonfsd._discarding import Discarding
from anonfsd._engine_lock import EngineLock
from anonfsd._event_streams import EventStreams
from anonfsd._front_threads import FrontThreads
from anonfsd._fronts import Fronts
from anonfsd._guard import Guard
from anonfsd._inode_lock import InodeLock
from anonfsd._inspection import Inspection
from anonfsd._io_flusher import become_io_flusher, memory_is_limited
from anonfsd._locking import Locking
from anonfsd._meminfo import MemStats
from anonfsd._mounts import (
    abort,
    check_mountpoint,
    mount,
    others_allowed,
    unmount,
)
from anonfsd._options import Options
from anonfsd._own_files import OwnFiles
from anonfsd._paging import Paging
from anonfsd._proc_events import ProcConnector
from anonfsd._read_ahead import ReadAhead
from anonfsd._reaper import Reaper
from anonfsd._reclaim import Reclaim
from anonfsd._refusal import FirstRefusal
from anonfsd._requests import Answerers
from anonfsd._rings import Rings
from anonfsd._room import Room
from anonfsd._seeking import Seeking
from anonfsd._sizing import Sizing
from anonfsd._stopping import Stopping
from anonfsd._tier import tier_line
from anonfsd._tree import EVENTS, Tree
from anonfsd._tree_operations import TreeOperations
from anonfsd._tuning import Tuning
from anonfsd._unloading import Unloading

__all__ = ["serve"]

log = logging.getLogger(__name__)

_GRACE = 5.0
_CHECK_INTERVAL = 0.25
_MOUNTED_INTERVAL = 1.0
_USED_INTERVAL = 0.05
_READS = 64


def serve(options: Options, ready: Callable[[], None]) -> None:
    """Mount, call ``ready``, answer requests until the mount is gone.

    Raises:
        MountError, OptionError: there can be no mount; nothing is left of the attempt.
    """
    check_mountpoint(options.mountpoint, over=options.over)
    with ExitStack() as stack:
        store = options.make_swap()
        stack.callback(store.close)
        without_mount = stack.enter_context(ExitStack())
        without_mount.callback(options.remove_kept_swap)
        image = Image(options.frames)
        stack.callback(image.close)
        mounted, device = mount(options.mountpoint)
        unserved = stack.enter_context(ExitStack())
        unserved.callback(unmount, mounted, lazy=True)
        guard = Guard.watch(mounted)
        stack.callback(guard.dismiss)
        # Before there are other threads, which are what this one is.
        flusher = become_io_flusher()
        server = _Server(options, image, SwapArea(store), mounted, device, ready, flusher=flusher)
        without_mount.pop_all()
        unserved.pop_all()
        try:
            trio.run(server.run, instruments=[server.lock])
        finally:
            if not server.served:
                unmount(mounted, lazy=True)
            if server.in_use:
                # A thread of ours may wait for an inode's lock, and who has that for us. The others
                # find the engine locked from here on: they would fail, and say so.
                server.lock.keep()
                abort(mounted)


class _Server:
    def __init__(
        self,
        options: Options,
        image: Image,
        swap: SwapArea,
        mounted: Mount,
        device: int,
        ready: Callable[[], None],
        *,
        flusher: bool,
    ) -> None:
        self.lock = EngineLock()
        self._mounted = mounted
        self._device = device
        self._budget = options.budget
        self._swap_path = str(options.swap) if options.swap and options.keep_swap else None
        self._checking = options.check
        self._ends_with = options.ends_with
        self._image = image
        self._ready = ready
        self._ending = trio.Event()
        self._served = trio.Event()
        self.in_use = False
        """Whether it was unmounted while files were open: their users keep the connection."""
        # Where others are let in the root is for everybody, as /dev/shm is.
        mode = stat.S_IFDIR | (0o1777 if others_allowed() else 0o700)
        memory = Memory(image, swap)
        root = NewInode(mode, os.getuid(), os.getgid())
        self._filesystem = FileSystem(
            image, memory, root, overcommit=options.overcommit, limits=options.limits
        )
        memory.promises.on_refusal = FirstRefusal(mounted.point, overcommit=options.overcommit)
        self._log = EventLog(self._name_of)
        self._told = told = ToldOperations(self._log)
        self._filesystem.on_delete = told.delete
        self._audience = Audience(self._filesystem, os.getuid())
        self._events = EventStreams(device, EVENTS, self.lock, self._log, self._audience)
        budget = Budget(options.frames, memory.frames, memory.loaded)
        self._tuning = Tuning(mounted.device)
        files = OwnFiles(mounted, self._tuning)
        room = Room(self._filesystem.departing, self.lock)
        self._operations = operations = TreeOperations(self._filesystem, room, self._end_soon)
        self._unloading = unloading = Unloading(device, files)
        self._inode_locks = inode_lock, clone_lock = [InodeLock(device, files) for _ in range(2)]
        operations.reclaim = self._reclaim = Reclaim(
            self._filesystem, self.lock, budget, unloading, files, inode_lock, operations, told
        )
        self._read_ahead = ReadAhead(
            files, lambda: flusher or not memory_is_limited(), self._close_own_files_soon
        )
        paging = Paging(
            self._filesystem,
            self.lock,
            budget,
            self._reclaim,
            operations,
            self._read_ahead.ask,
            told,
            FrontThreads(),
        )
        operations.sizing = sizing = Sizing(self._filesystem, self.lock, paging, operations)
        self._locking = Locking(self._filesystem, self.lock, self._reclaim, paging.perform)
        self._fronts = Fronts(
            self._filesystem, self.lock, mounted.device, unloading.forget_attributes
        )
        stopping = Stopping(self.lock, paging, self._reclaim, unloading)
        operations.cloning = cloning = Cloning(
            self._filesystem,
            self.lock,
            stopping,
            self._reclaim,
            unloading,
            clone_lock,
            mounted.device,
            operations.may_be_stored_to,
        )
        self._discarding = Discarding(self._fronts, self.lock, stopping, clone_lock, cloning)
        reads = swap.async_reads(_READS)
        seeking = Seeking(self.lock, paging, operations)
        at_once = AtOnce(operations, self.lock)
        answerers = Answerers(paging, sizing, seeking, self._events, at_once, room)
        self._connection = Connection(device, operations, answerers, reads, self._grant)

    @property
    def served(self) -> bool:
        """Whether the connection has come to its end: there is nothing left to unmount."""
        return self._served.is_set()

    async def run(self) -> None:
        device = self._mounted.device
        self._operations.rings = rings = Rings(self._filesystem, device, self._told)
        self._operations.inspection = inspection = Inspection(
            self._filesystem, rings, self._reclaim.swap_out, self._locking.lock
        )
        stats = MemStats(self._filesystem, self._budget, rings, self._swap_path)
        attaching = AttachServer(self._attachments(rings), self._fronts, self._discarding)
        tree = Tree(self._filesystem, stats, inspection, self._audience, attaching.name)
        self._operations.tree = tree
        self._token = trio.lowlevel.current_trio_token()
        await self._connection.negotiate()
        self._tuning.apply()
        for inode_lock in self._inode_locks:
            inode_lock.start()
        self._reclaim.start()
        self._fronts.start()
        self._read_ahead.start()
        self._events.start()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve)
                await nursery.start(self._end_at_signal)
                await self._in_background(rings, attaching)
                await self._end()
                nursery.cancel_scope.cancel()
            if self._checking:
                self._check(rings)
        finally:
            self._connection.close()

    def _name_of(self, inode: MappedInode) -> str | None:
        """What events call an inode; the number of one that is gone may be another's by now."""
        known = self._filesystem.inodes.get(inode.ino)
        path = path_of(self._filesystem.inodes, known) if known is inode else None
        return None if path is None else os.fsdecode(path)

    def _grant(self, unique: int, thread: int) -> None:
        """One of the threads that wait for locks of inodes has one."""
        for inode_lock in self._inode_locks:
            if inode_lock.thread == thread:
                inode_lock.granted(unique)

    def _close_own_files_soon(self) -> None:
        """A thread has opened a file of our own."""
        with self.lock:
            self._reclaim.close_soon()

    def _end_soon(self) -> None:
        """The state is broken; called by any thread."""
        self._token.run_sync_soon(self._ending.set)

    async def _serve(self) -> None:
        await self._connection.serve()
        log.info("%s: unmounted", self._mounted.point)
        self._served.set()
        self._ending.set()

    async def _end_at_signal(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                log.info("%s: %s", self._mounted.point, signal.strsignal(number))
                self._ending.set()

    def _attachments(self, rings: Rings) -> Attachments | None:
        """The processes that attach, where the daemon may have forks reported: as root."""
        if os.geteuid() != 0:
            return None
        rings.attachments = attachments = Attachments(
            self.lock,
            rings.spaces,
            self._mounted.device,
            self._operations,
            lambda: self._token.run_sync_soon(rings.note_change),
            self._fronts.discard,
        )
        attachments.start()
        return attachments

    async def _in_background(self, rings: Rings, attaching: AttachServer) -> None:
        """Run what runs beside the requests, until the mount is to end."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._follow_processes, rings, rings.attachments is not None)
            nursery.start_soon(rings.look_now_and_then)
            forget = self._unloading.forget_attributes
            nursery.start_soon(Reaper(self._filesystem, rings, self._device, forget).run)
            nursery.start_soon(self._operations.watch.run)
            nursery.start_soon(self._populate)
            nursery.start_soon(self._end_events_when_unmounted)
            nursery.start_soon(attaching.serve)
            if self._checking:
                nursery.start_soon(self._keep_checking, rings)
            if self._ends_with is not None:
                nursery.start_soon(self._end_with, self._ends_with)
            self._ready()
            log.info("%s: mounted, budget %s", self._mounted.point, format_size(self._budget))
            await self._ending.wait()
            nursery.cancel_scope.cancel()

    async def _follow_processes(
        self,
        rings: Rings,
        exact: bool,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Tell ``rings`` of the processes' events where we may have them; say which tier it is."""
        try:
            connector = await trio.to_thread.run_sync(ProcConnector.subscribe)
        except OSError as error:
            line = tier_line(exact=exact, no_events=error.strerror or str(error))
            log.info("%s: %s", self._mounted.point, line)
            task_status.started()
            return
        try:
            log.info("%s: %s", self._mounted.point, tier_line(exact=exact))
            task_status.started()
            await rings.follow(connector)
        finally:
            connector.close()

    async def _populate(self) -> None:
        """Allocate the arena ahead of its use, off the event loop."""
        try:
            while (step := self._image.frames.population.step()) is not None:
                await trio.to_thread.run_sync(step.run, abandon_on_cancel=True)
                step.finish()
        except OSError as error:
            log.info("frames will be allocated at their first touch: %s", error.strerror)

    async def _end_events_when_unmounted(self) -> None:
        """Let those go who follow a mount that only they keep in use: nobody else can find it."""
        while True:
            await trio.sleep(_MOUNTED_INTERVAL)
            if self._events.any_open and not await trio.to_thread.run_sync(
                self._is_mounted, abandon_on_cancel=True
            ):
                self._events.end()

    def _is_mounted(self) -> bool:
        return mount_at(self._mounted.point) == self._mounted

    async def _end_with(self, pidfd: int) -> None:
        """End after a process, and after those who have files open or mapped then."""
        await trio.lowlevel.wait_readable(pidfd)
        while True:
            while self._filesystem.opens:  # noqa: ASYNC110  closes are too many to tell of each
                await trio.sleep(_USED_INTERVAL)
            # Who opens a file at this moment keeps it; a working directory keeps nothing.
            unmounted = await trio.to_thread.run_sync(unmount, self._mounted)
            if unmounted or not self._filesystem.opens:
                break
        self._ending.set()

    async def _keep_checking(self, rings: Rings) -> None:
        while True:
            self._check(rings)
            await trio.sleep(_CHECK_INTERVAL)

    def _check(self, rings: Rings) -> None:
        """Recount everything that is cached, which holds whenever no handler is running."""
        self._filesystem.memory.check_invariants()
        self._filesystem.check_invariants()
        rings.spaces.check_invariants()
        self._log.check_invariants()
        self._events.check_invariants()
        for inode in self._filesystem.inodes.values():
            inode.check_invariants(areas=len(ShareRing(inode)))

    async def _end(self) -> None:
        """Free the mount point, then let `_serve` come to its end."""
        if self.served:
            return
        self._events.end()
        if await trio.to_thread.run_sync(unmount, self._mounted):
            with trio.move_on_after(_GRACE):
                await self._served.wait()
        else:
            files = self._filesystem.opens
            log.warning("%s: unmounted with %d files in use", self._mounted.point, files)
            self.in_use = True
            await trio.to_thread.run_sync(lambda: unmount(self._mounted, lazy=True))
        self._connection.stop()
        with trio.move_on_after(_GRACE):
            await self._served.wait()
        if not self.served:
            abort(self._mounted)
