"""The reaper: takes away the names of files that go with their last area, see `Reaping`.

What it is told is a suspicion, raised in the middle of a look. It looks again, and what has no
area then goes, all that is due in one pass over the names::

    suspicion ──▶ a look, if it is open ──▶ no area? ──▶ names gone ──▶ the kernel forgets them
                                               └─ areas came back: nothing, until their close

That look finds who inherited an area before its parent ended, see `anonfsd.procfs`. Who maps the
file at this very moment has it without a name, as with any unlink(2). An inode that is not open
has no area for certain, and needs no look: a daemon that cannot see the processes of all users
waits for that.

The kernel holds names that it looked up, so it is told of each; that takes the lock of the
directory, under which another may be waiting for the event loop, so it is for a thread. So it is
of each file, whose number of links it holds as well.
"""

import logging
import os
import struct
from collections.abc import Callable, Iterable

import trio

from anonfs.inspection import NEVER
from anonfs.units import Ino
from anonfs.vfs import FileSystem, Inode
from anonfs.vm import ShareRing
from anonfsd._alarm import Alarm
from anonfsd._rings import Rings

__all__ = ["Reaper"]

log = logging.getLogger(__name__)

_NOTIFY_INVAL_ENTRY = 3
_INVALIDATE = struct.Struct("=IiQQII")  # len, code, unique; directory, length of name, flags
_PAUSE = 1.0


class Reaper:
    """Reaps files of ``filesystem``, whose mount is connected by ``device``.

    ``forget_attributes`` has the kernel forget those of an inode, see `Unloading`.
    """

    def __init__(
        self,
        filesystem: FileSystem,
        rings: Rings,
        device: int,
        forget_attributes: Callable[[int], None],
    ) -> None:
        self._filesystem = filesystem
        self._rings = rings
        self._device = device
        self._forget_attributes = forget_attributes
        self._due: dict[Ino, Inode] = {}
        self._wanted = Alarm()
        self._limiter = trio.CapacityLimiter(1)
        self._sees_all = os.geteuid() == 0
        filesystem.reaping.on_due = self._note

    def _note(self, inode: Inode) -> None:
        """Called with the engine's lock held, by whoever learned of a close."""
        self._due[inode.ino] = inode
        self._wanted.set()

    async def run(self) -> None:
        """Reap what is due; runs for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            due, self._due = self._due, {}
            try:
                await self._reap(due)
            except OSError as error:
                log.info("files that have to go must wait: %s", error)
                self._due = due | self._due
                self._wanted.set()
                await trio.sleep(_PAUSE)

    async def _reap(self, due: dict[Ino, Inode]) -> None:
        """Raises AnonfsError: EAGAIN, /proc could not be read in time."""
        if self._sees_all and any(inode.opens for inode in due.values()):
            await self._rings.look()
        # Nothing waits until the names are gone: areas cannot come between.
        reaped = [inode for inode in due.values() if self._is_due(inode)]
        numbers = [inode.ino for inode in reaped if inode.opens]
        names = self._filesystem.unlink_all(reaped)
        if names:
            log.info("reaped %d names", len(names))
            await trio.to_thread.run_sync(
                self._forget, names, numbers, limiter=self._limiter, abandon_on_cancel=True
            )

    def _is_due(self, inode: Inode) -> bool:
        """Whether ``inode`` is there, with names, and has no area that keeps it."""
        if self._filesystem.inodes.get(inode.ino) is not inode or not inode.names:
            return False
        if inode.opens and not self._sees_all:
            inode.was_mapped = True
            return False
        policy = self._filesystem.reaping.policy(inode)
        return policy != NEVER and not any(
            policy.group in {0, area.group} for area in ShareRing(inode)
        )

    def _forget(self, names: Iterable[tuple[Ino, bytes]], numbers: Iterable[Ino]) -> None:
        """Have the kernel forget what it knows of each name, and of inodes that are open."""
        for parent, name in names:
            size = _INVALIDATE.size + len(name) + 1
            header = _INVALIDATE.pack(size, _NOTIFY_INVAL_ENTRY, 0, parent, len(name), 0)
            try:
                os.write(self._device, header + name + b"\0")
            except FileNotFoundError:
                pass  # The kernel had not looked it up.
            except OSError as error:
                log.info("the kernel keeps the name of a reaped file: %s", error)
        for ino in numbers:
            self._forget_attributes(ino)
