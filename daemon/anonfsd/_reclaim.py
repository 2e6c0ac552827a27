"""Reclaim: keeps what the mount costs within its budget, as kswapd does for a host.

Two kinds of threads, which meet in the engine only::

    unloading   page cache ──write-back──▶ frames, then the PTEs and the cached pages are dropped
    swapping    frames ──▶ swap

The first needs answers from the request threads, those need frames, and the second makes frames
with the help of nobody but the disk: so there is always one that can go on.
"""

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anonfs.errors import AnonfsError
from anonfs.mm import EVICTION_BATCH, AnonInodeInfo, Budget, Eviction, Unload
from anonfs.vfs import FileSystem, Inode
from anonfs.vm import ToldOperations
from anonfsd._answers import Failing, errno_for
from anonfsd._engine_lock import EngineLock
from anonfsd._inode_lock import InodeLock
from anonfsd._own_files import OwnFiles
from anonfsd._unloading import Unloading

__all__ = ["Reclaim"]

log = logging.getLogger(__name__)

_UNLOAD_BATCH = 1024
_SWAPPERS = 2
_IDLE_SECONDS = 0.25
_PROBE_SECONDS = 1.0


class Reclaim:
    """The reclaim of a mount. ``room`` is notified when there is more of it than before.

    ``operations`` are told what goes to swap.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        lock: EngineLock,
        budget: Budget,
        unloading: Unloading,
        files: OwnFiles,
        inode_lock: InodeLock,
        failing: Failing,
        operations: ToldOperations,
    ) -> None:
        self.room = lock.condition()
        self._filesystem = filesystem
        self._memory = filesystem.memory
        self._lock = lock
        self._budget = budget
        self._unloading = unloading
        self._files = files
        self._inode_lock = inode_lock
        self._failing = failing
        self._operations = operations
        self._unload_wanted = lock.condition()
        self._swap_wanted = lock.condition()
        self._alone_no_more = lock.condition()
        self._reclaiming = False
        self.is_stuck = False
        """Nothing can be unloaded: all that is loaded is next to what a READ held back asks for."""
        count = filesystem.memory.frames.count
        self._low, self._high = count // 32, count // 16
        filesystem.departing.on_note = self._note_departing

    def start(self) -> None:
        """Start the threads, which end with the process."""
        self._start(self._unload_for_ever, "unload")
        for number in range(_SWAPPERS):
            self._start(self._swap_for_ever, f"swap-{number}")

    def _start(self, work: Callable[[], None], name: str) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  nobody else would hear of it
                errno_for(self._failing, name, error)
                self._failing.fail()

        threading.Thread(target=run, name=name, daemon=True).start()

    # -- what is asked of it, with the lock held ---------------------------------------------

    def wake(self) -> None:
        """More pages are loaded, and that may be more than there should be.

        That is seen here and not only by the thread that unloads: it may be waiting for a swap-out
        of many pages, which waits for frames to go to swap.
        """
        if self._budget.is_over:
            self._unload_wanted.notify_all()
            self._wake_swapping()

    def note_write(self) -> None:
        """More frames are taken, and that may be more than there should be."""
        if self._budget.is_over:
            self.wake()
        else:
            self._wake_swapping()

    def _wake_swapping(self) -> None:
        if self._can_swap and self._frames_to_swap() > 0:
            self._swap_wanted.notify_all()

    @property
    def is_behind(self) -> bool:
        """Whether frames come faster than they go to swap."""
        frames, budget = self._memory.frames, self._budget
        return budget.is_exceeded and frames.evictable > budget.staging and self._can_swap

    @property
    def _can_swap(self) -> bool:
        return self._memory.swap.free > 0

    def make_room(self, wanted: int) -> None:
        """Evict towards ``wanted`` free frames, here and now; look again whether there are.

        Raises:
            AnonfsError: ENOSPC, budget and swap are full; EIO, swap cannot be written just now.
        """
        try:
            eviction = self._memory.work_for_frames(wanted)
        except AnonfsError as error:
            if error.errno != errno.EAGAIN:
                raise
            self.room.wait(_IDLE_SECONDS)
            return
        if eviction is not None:
            self._swap(eviction)

    def _note_departing(self, inode: Inode) -> None:
        """Nobody has a name or an open file of ``inode`` any more, unless we have."""
        if self._files.forget(inode.ino):
            self._unload_wanted.notify_all()

    def close_soon(self) -> None:
        """A file of our own was opened, and is not to stay open."""
        self._unload_wanted.notify_all()

    # -- unloading -------------------------------------------------------------------------

    def _unload_for_ever(self) -> None:
        while True:
            try:
                self._unload_once()
            except OSError as error:
                log.error("reclaim: %s", error)  # noqa: TRY400
                with self._lock:
                    self._unload_wanted.wait(_IDLE_SECONDS)

    def _unload_once(self) -> None:
        # However busy reclaim is: a file may be kept alive by this alone.
        self._files.close_idle(_IDLE_SECONDS)
        with self._lock:
            info = self._next_victim()
        if info is not None:
            # The lock of the inode first, as a swap-out on request has it.
            with self._inode_lock.held(info.ino), self.alone(info):
                self._unload_some(info)
            return
        with self._lock:
            if not self._budget.is_short:
                self._unload_wanted.wait(_IDLE_SECONDS if self._files.any_open else None)
            elif self._reclaiming:
                # Whatever is loaded is wanted just now: frames may go to swap instead.
                self._wake_swapping()
                self._unload_wanted.wait(_IDLE_SECONDS)

    def _next_victim(self) -> AnonInodeInfo | None:
        """Whose pages to unload now, once free frames have been given up."""
        budget, loaded = self._budget, self._memory.loaded
        if budget.spare > 0:
            self._memory.frames.trim(budget.spare)
        self._reclaiming = budget.is_short or (self._reclaiming and budget.excess > 0)
        if not self._reclaiming:
            self.room.notify_all()
            return None
        self._wake_swapping()
        info = loaded.at_hand
        if info is None and not self.is_stuck:
            self.room.notify_all()
        self.is_stuck = info is None
        return info

    def _unload_some(self, info: AnonInodeInfo) -> None:
        """Unload cold pages of an inode whose lock is held, if it still has some."""
        loaded = self._memory.loaded
        with self._lock:
            if self._budget.excess <= 0:
                return
            unload = loaded.begin(min(self._budget.excess, _UNLOAD_BATCH), info)
            upcoming = loaded.upcoming(unload) if unload is not None else []
        if unload is not None:
            self._drop(unload, upcoming)

    def _drop(self, unload: Unload, upcoming: list[tuple[int, int]]) -> None:
        """Have the pages of ``unload`` dropped, and account for it."""
        try:
            self._unloading.drop(unload.info.ino, unload.runs, upcoming)
        except BaseException:
            with self._lock:
                self._memory.loaded.abandon(unload)
            raise
        with self._lock:
            holes = self._memory.loaded.end(unload)
            inode = self._filesystem.inodes.get(unload.info.ino)
            if inode is not None and inode.info is unload.info:
                self._filesystem.promising.take_back(inode, holes)
            self.room.notify_all()

    @contextmanager
    def alone(self, info: AnonInodeInfo) -> Iterator[None]:
        """Keep pages of an inode from being unloaded by others; taken after the inode's lock.

        Others' pages are not in its way: the kernel may wait for a page that is read from a front.
        """
        alone = self._memory.loaded.alone
        with self._lock:
            while info in alone:
                self._alone_no_more.wait()
            alone.add(info)
        try:
            yield
        finally:
            with self._lock:
                alone.discard(info)
                self._alone_no_more.notify_all()

    def unload(self, info: AnonInodeInfo, first: int, count: int) -> None:
        """Have ``count`` pages from ``first`` leave the page cache; for a thread that is `alone`.

        The lock of the inode is held. Raises OSError: a write-back failed.
        """
        with self._lock:
            unload = self._memory.loaded.begin_range(info, first, count)
            self.room.notify_all()  # READs of these pages are not to wait any longer
        try:
            self._drop(unload, [])
        finally:
            with self._lock:
                self.close_soon()

    def swap_out(self, inode: Inode, first: int, last: int) -> None:
        """Have pages ``first`` to ``last`` leave the page cache and core; for a thread.

        Those of a locked inode stay, without a word, as madvise(2) has it after SHM_LOCK.

        Raises OSError: ENOSPC, swap is full.
        """
        info = inode.info
        if info is None or info.locked:
            return
        with self.alone(info):
            self.unload(info, first, last - first + 1)
        with self._lock:
            while first <= last:
                first = self._swap_out_some(info, first, last)
            # Others may have had pages of these on their way already.
            leaving = set(self._memory.evictions)
            while leaving & self._memory.evictions:
                self.room.wait(_IDLE_SECONDS)

    def _swap_out_some(self, info: AnonInodeInfo, first: int, last: int) -> int:
        """Have some pages from ``first`` to ``last`` swapped out; returns where to go on."""
        try:
            eviction, beyond = self._memory.work_to_swap_out(info, first, last)
        except AnonfsError as error:
            if error.errno != errno.EAGAIN:
                raise
            self.room.wait(_IDLE_SECONDS)
            return first
        if eviction is None:
            return beyond
        self._swap(eviction)
        # What could not be written is tried again, in other slots, until swap counts as failing.
        return beyond if eviction.error is None else first

    # -- swapping --------------------------------------------------------------------------

    def _swap_for_ever(self) -> None:
        with self._lock:
            while True:
                eviction = self._next_eviction()
                if eviction is not None:
                    self._swap(eviction)
                else:
                    self._swap_wanted.wait(_PROBE_SECONDS if self._memory.swap.failing else None)

    def _frames_to_swap(self) -> int:
        """How many frames should go to swap; 0 or less: none."""
        frames, budget = self._memory.frames, self._budget
        # The unloading thread may be waiting for write-backs that need frames.
        reclaiming = self._reclaiming or budget.is_short
        wanted = frames.evictable - budget.staging // 2 if reclaiming else 0
        if frames.free < self._low:
            wanted = max(wanted, self._high - frames.free)
        return wanted

    def _next_eviction(self) -> Eviction | None:
        """What to write to swap now, if anything."""
        wanted = self._frames_to_swap()
        if wanted <= 0:
            return None
        return self._memory.work_to_evict(min(wanted, EVICTION_BATCH))

    def _swap(self, eviction: Eviction) -> None:
        self._lock.perform(eviction)
        if eviction.error is not None:
            log.error("swap cannot be written everywhere: %s", eviction.error)
        if self._operations.log.wanted:
            self._tell_of(eviction)
        self.room.notify_all()
        self.wake()  # frames that are free can be trimmed

    def _tell_of(self, eviction: Eviction) -> None:
        for info, first, count in eviction.swapped():
            inode = self._filesystem.inodes.get(info.ino)
            if inode is not None and inode.info is info:
                self._operations.swapout(inode, first, count)
