"""Room: requests that find none are tried again when files that are departing have gone.

unlink(2) and close(2) return before we are told that a file is gone, see `Departing`, and what
their caller asks for next may need the room of that file::

    UNLINK ──▶ answered ──▶ CREATE, SETATTR: no room ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄▶ again ──▶ answered
                    └──────────────────▶ FORGET: the file is gone ──┘

What is departing when a request has found no room is awaited, nothing that comes later: so it waits
for a moment at the most, whatever others do, and where nothing departs not at all.
"""

import errno
import threading
from collections.abc import Callable

import trio

from anonfs.vfs import Departing, Inode
from anonfsd._engine_lock import EngineLock
from anonfsd._putting_off import Late
from anonfsd._standstill import Waiting

__all__ = ["NO_ROOM", "Patience", "Room"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM})
"""The answers to requests that find no room; ENOMEM is for pages that are to be locked."""

_MOST = 16  # that wait in threads; each of those that come by `answer_later` may hold 1 MiB


class Room:
    """The room that comes when files that are ``departing`` have gone."""

    def __init__(self, departing: Departing, lock: EngineLock) -> None:
        self.departing = departing
        self.lock = lock
        self.came = lock.condition()
        self.limiter = trio.CapacityLimiter(_MOST)
        self._late = threading.Semaphore(_MOST)
        departing.on_gone = self.came.notify_all

    def answer_later(self, answer: Callable[[Late], int], waiting: Waiting) -> bool:
        """Have ``answer`` answer a request, by a thread; it returns an errno where it cannot.

        Returns whether it will be: not where too many are.
        """
        if not self._late.acquire(blocking=False):
            return False
        threading.Thread(target=self._answer, args=(answer, waiting), daemon=True).start()
        return True

    def _answer(self, answer: Callable[[Late], int], waiting: Waiting) -> None:
        try:
            patience, error = Patience(self), errno.ENOSPC
            while error in NO_ROOM and patience.again():
                error = answer(Late(waiting))
            if error:
                waiting.reply_error(error)
        finally:
            self._late.release()


class Patience:
    """That of one request, which has found no room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._awaited: set[Inode] | None = None

    def again(self) -> bool:
        """Wait until there may be room; False, there will be no more. For a thread."""
        with self._room.lock:
            if self._awaited is None:
                # What has gone since the request was tried is not among them.
                self._awaited = set(self._room.departing.awaited())
                return True
            while self._awaited:
                left = self._room.departing.awaited()
                if not self._awaited <= left.keys():
                    self._awaited &= left.keys()
                    return True
                self._room.came.wait(min(left.values()))
            return False

    async def again_soon(self) -> bool:
        """As `again`; for the event loop."""
        limiter = self._room.limiter
        return await trio.to_thread.run_sync(self.again, abandon_on_cancel=True, limiter=limiter)
