"""Punching: holes that fallocate(2) and MADV_REMOVE make in files.

The kernel writes back what is dirty, asks us, and drops the pages from its page cache once it has
the answer, all of it with the lock of the inode, which keeps write(2) and ftruncate(2) out. It does
not keep out who stores to a mapping: a page of old bytes that was stored to, and written back after
we have freed it, would come back. So the answer waits until the page cache has no page of before::

    kernel          we                                       who has the file mapped
    write back
    FALLOCATE ────▶ free the pages
                    ┌ drop them from the page cache ◀─ WRITE ─ stores to a page of before
                    │   and punch each WRITE anew
                    └ all others show zeros by now ── READ ──▶ reads
              ◀──── answer
    drop

What is stored to a hole while it is made may be lost, as anywhere.

Holes are made by one thread, one after the other: a request thread must not wait for that, for to
drop pages takes request threads. What is kept of the first and the last page may have to come from
a front first, and waits for it elsewhere. And a page that is dropped may just be read from a front:
so holes above fronts have a thread for each domain.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from anonfs.mm import AnonInodeInfo, Parts, cutting
from anonfs.units import PAGE_SHIFT, pages_for
from anonfs.vfs import FileSystem, Inode
from anonfsd._answers import Failing, errno_for
from anonfsd._engine_lock import EngineLock
from anonfsd._putting_off import AtFront, FrontNeededError, Late, PuttingOff
from anonfsd._reclaim import Reclaim
from anonfsd._standstill import Waiting

__all__ = ["Punching"]


class _Hole(NamedTuple):
    """A hole of ``size`` bytes at ``offset``; the file is to have ``end`` bytes at least."""

    inode: Inode
    info: AnonInodeInfo
    offset: int
    size: int
    end: int
    waiting: Waiting

    @property
    def pages(self) -> tuple[int, int]:
        """The first page of which a part is in it, and how many."""
        first = self.offset >> PAGE_SHIFT
        return first, pages_for(self.offset + self.size) - first


class Punching:
    """Makes holes; ``prepare`` sees to it that parts of an inode can be written, see `Paging`."""

    def __init__(
        self,
        filesystem: FileSystem,
        lock: EngineLock,
        reclaim: Reclaim,
        failing: Failing,
        prepare: Callable[[AnonInodeInfo, Parts, Late], None],
        putting_off: PuttingOff,
    ) -> None:
        self._filesystem = filesystem
        self._memory = filesystem.memory
        self._lock = lock
        self._reclaim = reclaim
        self._failing = failing
        self._prepare = prepare
        self._putting_off = putting_off
        self._wanted: dict[int | None, queue.SimpleQueue[_Hole]] = {}
        self._making: dict[AnonInodeInfo, _Hole] = {}

    def punch(
        self, inode: Inode, info: AnonInodeInfo, hole: tuple[int, int], end: int, waiting: Waiting
    ) -> None:
        """Make ``hole`` (offset, size) in a file, and let it have ``end`` bytes at least.

        ``waiting`` is answered. With the lock held; so is the lock of the inode, by the kernel.

        Raises AnonfsError: ENOSPC, EDQUOT; nothing was changed, and nobody is answered.
        """
        if end > inode.size:
            # Who finds no room waits for it, and not in the thread that makes holes.
            with self._filesystem.promising.writing(inode, end - 1, 1):
                pass
        self._want(_Hole(inode, info, *_within(*hole, inode.size), end, waiting))

    def _want(self, hole: _Hole) -> None:
        domain = hole.info.front.store.domain if hole.info.front is not None else None
        wanted = self._wanted.get(domain)
        if wanted is None:
            wanted = self._wanted[domain] = queue.SimpleQueue()
            name = "punching" if domain is None else f"punching-{domain}"
            serve = partial(self._serve, wanted)
            threading.Thread(target=serve, name=name, daemon=True).start()
        wanted.put(hole)

    def renew(self, info: AnonInodeInfo, offset: int, size: int) -> None:
        """``size`` bytes at ``offset`` were written: empty what is within the hole being made."""
        hole = self._making.get(info)
        if hole is None:
            return
        start, end = max(offset, hole.offset), min(offset + size, hole.offset + hole.size)
        if start < end:
            # The pages were written this moment, so nothing has to be waited for.
            cutting.punch(self._memory, info, start, end - start)

    def _serve(self, wanted: queue.SimpleQueue[_Hole]) -> None:
        while True:
            hole = wanted.get()
            try:
                done = self._make(hole)
            except Exception as error:  # noqa: BLE001  whatever it is, the kernel waits for an answer
                hole.waiting.reply_error(errno_for(self._failing, "punch", error))
            else:
                if done:
                    hole.waiting.reply(b"")

    def _make(self, hole: _Hole) -> bool:
        """Make ``hole``; False if a front has to be waited for first, which has been begun."""
        inode, promising = hole.inode, self._filesystem.promising
        room = ExitStack()
        try:
            with self._lock:
                self._making[hole.info] = hole
                if hole.end > inode.size:
                    # What fails for want of room leaves all as it was.
                    room.enter_context(promising.writing(inode, hole.end - 1, 1))
                if hole.size:
                    try:
                        self._punch(hole)
                    except FrontNeededError:
                        self._put_off(hole)
                        return False
            if hole.size:
                with self._reclaim.alone(hole.info):
                    self._reclaim.unload(hole.info, *hole.pages)
            with self._lock:
                if hole.end > inode.size:
                    self._filesystem.truncate(inode, hole.end)
        finally:
            with self._lock:
                del self._making[hole.info]
                room.close()
                promising.settle(inode)
        return True

    def _punch(self, hole: _Hole) -> None:
        with self._edges_writable(hole, Late(hole.waiting)):
            self._filesystem.punch(hole.inode, hole.offset, hole.size)

    def _edges_writable(self, hole: _Hole, thread: Late) -> ExitStack:
        """The edges of ``hole`` are promised their pages, and can be written in this moment."""
        edges = cutting.edges(hole.offset, hole.size)
        with ExitStack() as promised:
            for offset, size in edges:
                writing = self._filesystem.promising.writing(hole.inode, offset, size)
                promised.enter_context(writing)
            self._prepare(hole.info, edges, thread)
            return promised.pop_all()

    def _put_off(self, hole: _Hole) -> None:
        """Have the edges of ``hole`` come from the front, and begin anew."""

        def complete(late: AtFront) -> int:
            try:
                with self._lock, self._edges_writable(hole, late):
                    # Who was told that it failed goes on, and may write where it was to be.
                    late.taken = not late.expired
                    if late.taken:
                        self._want(hole)
            except Exception as error:  # noqa: BLE001  as in `_serve`
                return errno_for(self._failing, "punch", error)
            return 0

        # The kernel reads no page meanwhile, so none of the others has to be kept from reclaim.
        first, _ = hole.pages
        self._putting_off.put_off(hole.info, (first, 1), hole.waiting, complete)


def _within(offset: int, size: int, end: int) -> tuple[int, int]:
    """What of a hole lies within a file of ``end`` bytes, with the rest of its last page."""
    stop = offset + size if offset + size < end else pages_for(end) << PAGE_SHIFT
    return offset, max(0, stop - offset)
