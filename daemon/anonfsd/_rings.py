"""Rings: keeps the share rings in step with /proc.

An inspection looks first, so what it says is true at that moment. Besides, a background pass looks
soon after a descriptor was opened or closed and otherwise ever more rarely, never for more than a
small share of the time. At the last RELEASE of an inode no look is needed: it comes when the last
mapping has gone.
"""

import trio

from anonfs.units import Ino
from anonfs.vfs import FileSystem, Inode
from anonfs.vm import AddressSpaces, SharedOperations
from anonfsd.procfs import scan

__all__ = ["Rings"]

_SOON = 0.2
_SELDOM = 30.0
_DUTY = 20  # a look is followed by a pause of at least so many times its duration


class Rings:
    """The rings of the inodes of ``filesystem``, whose mount has ``device`` (major, minor)."""

    def __init__(self, filesystem: FileSystem, device: tuple[int, int]) -> None:
        self.spaces = AddressSpaces(SharedOperations(), self._mappable)
        self._filesystem = filesystem
        self._device = device
        self._lock = trio.Lock()
        self._begun = 0
        self._changed = trio.Event()
        # One thread: looks come one after the other, and may wait for processes that fault.
        self._limiter = trio.CapacityLimiter(1)

    def _mappable(self, ino: Ino) -> Inode | None:
        """An inode that can have areas: one that is open.

        A look that began before the last RELEASE thus cannot bring areas back after it.
        """
        inode = self._filesystem.inodes.get(ino)
        return inode if inode is not None and inode.opens else None

    async def look(self) -> None:
        """Bring all rings to what /proc shows at some instant after this call began."""
        wanted = self._begun + 1
        async with self._lock:
            if self._begun >= wanted:
                return  # Another caller's look began after this call.
            self._begun += 1
            seen = await trio.to_thread.run_sync(scan, self._device, limiter=self._limiter)
            # Bookkeeping from here on: nothing waits until the rings are complete.
            self.spaces.update(seen, complete=True)

    def note_change(self) -> None:
        """A descriptor was opened or closed: areas may have come or gone."""
        self._changed.set()

    def note_last_release(self, inode: Inode) -> None:
        """No open file of ``inode`` is left, so no mapping is."""
        self.spaces.drop(inode)

    async def look_now_and_then(self) -> None:
        """The background pass; runs for ever."""
        pause = _SOON
        while True:
            with trio.move_on_after(pause):
                await self._changed.wait()
                pause = _SOON
            self._changed = trio.Event()
            if not self._filesystem.opens:
                pause = _SELDOM
                continue
            begin = trio.current_time()
            await self.look()
            took = trio.current_time() - begin
            await trio.sleep(max(_SOON, _DUTY * took))
            pause = min(_SELDOM, 2 * pause)
