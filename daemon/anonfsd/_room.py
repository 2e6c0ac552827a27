"""Room: requests that find none are tried again when files that are departing have gone.

unlink(2) and close(2) return before we are told that a file is gone, see `Departing`, and what
their caller asks for next may need the room of that file::

    UNLINK ──▶ answered ──▶ CREATE, SETATTR: no room ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄▶ again ──▶ answered
                    └──────────────────▶ FORGET: the file is gone ──┘

What is departing when a request has found no room is awaited, nothing that comes later: so it waits
for a moment at the most, whatever others do, and where nothing departs not at all. What handlers of
pyfuse3 ask for waits in the event loop, all else in threads; where too many wait the next one is
answered as if nothing departed.
"""

import errno
import threading
from collections.abc import Callable

import trio

from anonfs.vfs import Departing
from anonfsd._engine_lock import EngineLock
from anonfsd._putting_off import Late
from anonfsd._standstill import Waiting

__all__ = ["NO_ROOM", "Patience", "Room"]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM})
"""The answers to requests that find no room; ENOMEM is for pages that are to be locked."""

_MOST_SLEEPERS = 250  # each of them has a worker of pyfuse3
_MOST_THREADS = 128
_MOST_BYTES = 16 << 20  # of what is to be written


class Room:
    """The room that comes when files that are ``departing`` have gone.

    ``gone`` counts the files that went, ``came`` is notified then, and ``sleepers`` are woken.
    """

    def __init__(self, departing: Departing, lock: EngineLock) -> None:
        self.departing = departing
        self.lock = lock
        self.gone = 0
        self.came = lock.condition()
        self.sleepers = trio.lowlevel.ParkingLot()
        self._token: trio.lowlevel.TrioToken | None = None
        self._late = threading.Lock()
        self._threads = self._bytes = 0
        departing.on_gone = self._note_gone

    def _note_gone(self) -> None:
        self.gone += 1
        self.came.notify_all()
        if self._token is not None and self.sleepers:
            self._token.run_sync_soon(self.sleepers.unpark_all, idempotent=True)

    async def sleep(self, seconds: float) -> bool:
        """Sleep until a file has gone, or so long; False if too many do. For the event loop."""
        if len(self.sleepers) >= _MOST_SLEEPERS:
            return False
        self._token = trio.lowlevel.current_trio_token()
        with trio.move_on_after(seconds):
            await self.sleepers.park()
        return True

    def answer_later(self, answer: Callable[[Late], int], waiting: Waiting, size: int = 0) -> bool:
        """Have ``answer`` answer a request, by a thread; it returns an errno where it cannot.

        It holds ``size`` bytes. Returns whether it will be: not where too many are.
        """
        with self._late:
            if self._threads >= _MOST_THREADS or self._bytes + size > _MOST_BYTES:
                return False
            self._threads += 1
            self._bytes += size
        arguments = answer, waiting, size
        try:
            threading.Thread(target=self._answer, args=arguments, daemon=True).start()
        except RuntimeError:  # whoever we run as has too many
            self._end(size)
            return False
        return True

    def _answer(self, answer: Callable[[Late], int], waiting: Waiting, size: int) -> None:
        try:
            patience, error = Patience(self), errno.ENOSPC
            while error in NO_ROOM and patience.again():
                error = answer(Late(waiting))
            if error:
                waiting.reply_error(error)
        finally:
            self._end(size)

    def _end(self, size: int) -> None:
        with self._late:
            self._threads -= 1
            self._bytes -= size


class Patience:
    """That of one request, which has found no room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._last: float | None = None
        self._gone = 0
        self._is_over = False

    def again(self) -> bool:
        """Wait until there may be room; False, there will be no more. For a thread."""
        with self._room.lock:
            while not self._may_try():
                seconds = self._seconds_left()
                if not seconds:
                    return False
                self._room.came.wait(seconds)
            return True

    async def again_soon(self) -> bool:
        """As `again`; for the event loop."""
        while not self._may_try():
            seconds = self._seconds_left()
            if not seconds or not await self._room.sleep(seconds):
                return False
        return True

    def _may_try(self) -> bool:
        """Whether something may have gone since the request was tried."""
        room = self._room
        if self._last is None:
            self._last, self._gone = room.departing.last(), room.gone
            return True
        before, self._gone = self._gone, room.gone
        if self._is_over or before == self._gone:
            return False
        self._is_over = not self._seconds_left()
        return True

    def _seconds_left(self) -> float:
        return self._room.departing.seconds_left(self._last or 0.0)
