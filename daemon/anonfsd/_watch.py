"""Watching: open files of the tree, and those who wait for them to change.

An open file is a snapshot, taken when it is opened and again when its beginning is read again, so
that what is read in pieces fits together. It can always be read; besides, poll(2) says whether it
would show something else than at the last snapshot (POLLPRI and POLLERR, as sysfs and /proc/mdstat
do), until it is read again::

    open ──▶ unchanged ◀────── READ at 0 ─────── changed ◀─┐
                 │                                         │
                 └── a look, by POLL or by the task, says so

While somebody waits, a task looks a few times a second and wakes them. The kernel does not tell
when a waiter gives up: after a while all are woken, upon which those who still wait ask again,
without a program noticing. When nobody waits, nothing runs.
"""

import contextlib
import errno
from typing import Protocol

import trio

from anonfs.errors import AnonfsError
from anonfsd._views import View

__all__ = ["Wakeup", "Watch", "WatchedFile"]

_INTERVAL = 0.25
_DUTY = 20  # looks take at most one part in so many of the time
_WAITING_SECONDS = 30.0


class Wakeup(Protocol):
    """Somebody who waits in poll(2): pyfuse3's PollHandle."""

    def notify(self) -> None:
        """Wake them. Raises OSError: the connection is gone."""


class WatchedFile:
    """An open file description of ``view``, opened by user ``uid``; made by `opened`."""

    def __init__(self, view: View, uid: int) -> None:
        self._view = view
        self._uid = uid
        self.text = b""
        self._state = 0
        self._unread = True
        self._changed = False
        self._next_look = 0.0

    @classmethod
    async def opened(cls, view: View, uid: int) -> "WatchedFile":
        """The file with its first snapshot. Raises AnonfsError."""
        file = cls(view, uid)
        await file._take()
        return file

    async def read(self, offset: int, size: int) -> bytes:
        """A piece of the snapshot; from the second READ at 0, or after a change, of a new one.

        Raises AnonfsError.
        """
        if offset == 0 and (self._changed or not self._unread):
            await self._take()
        self._unread = self._unread and offset != 0
        return self.text[offset : offset + size] if offset >= 0 and size > 0 else b""

    async def _take(self) -> None:
        self.text, self._state = await self._view.look(self._uid)
        self._changed, self._next_look = False, 0.0

    async def has_changed(self) -> bool:
        """Whether a new snapshot would differ: it looks, unless it just did."""
        if not self._changed and trio.current_time() >= self._next_look:
            self._next_look = trio.current_time() + _INTERVAL
            snapshot = self._state
            try:
                changed = await self._view.state(self._uid) != snapshot
            except AnonfsError as error:
                # That the inode is gone is a change; that nobody could tell in time is none.
                changed = error.errno != errno.EAGAIN
            # A READ may have taken another snapshot while this was looking.
            self._changed = changed and self._state == snapshot
        return self._changed


class Watch:
    """Who waits for which file."""

    def __init__(self) -> None:
        self._waiting: dict[WatchedFile, tuple[Wakeup, float]] = {}
        self._wanted = trio.Event()

    def add(self, file: WatchedFile, wakeup: Wakeup) -> None:
        """Have ``wakeup`` notified when ``file`` has changed, in place of one before it."""
        self._waiting[file] = wakeup, trio.current_time() + _WAITING_SECONDS
        self._wanted.set()

    def remove(self, file: WatchedFile) -> None:
        """``file`` was closed: nobody waits for it."""
        self._waiting.pop(file, None)

    async def run(self) -> None:
        """Look while somebody waits; runs for ever."""
        while True:
            await self._wanted.wait()
            begin = trio.current_time()
            for file in list(self._waiting):
                await self._look(file)
            took = trio.current_time() - begin
            if not self._waiting:
                self._wanted = trio.Event()
            await trio.sleep(max(_INTERVAL, _DUTY * took))

    async def _look(self, file: WatchedFile) -> None:
        changed = await file.has_changed()
        found = self._waiting.get(file)
        if found is None:
            return
        wakeup, until = found
        if changed or trio.current_time() > until:
            del self._waiting[file]
            with contextlib.suppress(OSError):
                wakeup.notify()
