"""Putting off: requests that wait for a front are answered by threads that are there for that.

Such a request begins anew in one of `FrontThreads`, where it may wait. Meanwhile the hand of
reclaim is kept away from its pages: the kernel would not drop them before it is answered.
"""

import errno
import threading
from collections.abc import Callable

from anonfs.mm import AnonInodeInfo, LoadedPages, OnePageRead
from anonfsd._engine_lock import EngineLock
from anonfsd._front_threads import FrontThreads
from anonfsd._standstill import Waiting

__all__ = ["AtFront", "FrontNeededError", "Late", "PuttingOff"]


class FrontNeededError(Exception):
    """A front has to be waited for, and this thread may not."""


class Late:
    """The receiver of a request that was stopped or put off: it does nothing else meanwhile."""

    def __init__(self, waiting: Waiting) -> None:
        self.reply = waiting.reply
        self._waiting = waiting

    def let_lead(self) -> None:
        """It does not lead."""

    def later(self) -> Waiting:
        """It is late already."""
        return self._waiting

    def begin(self, read: OnePageRead) -> bool:
        """It reads by itself."""
        del read
        return False


class AtFront(Late):
    """The receiver of a request that may wait for a front.

    Once it has ``expired`` nobody waits for it. It does not if it was ``taken`` before, with the
    lock held, by somebody who answers it after that.
    """

    expired = False
    taken = False


class PuttingOff:
    """Puts requests off, to ``threads``; the pages are among those ``loaded``."""

    def __init__(self, lock: EngineLock, loaded: LoadedPages, threads: FrontThreads) -> None:
        self._lock = lock
        self._loaded = loaded
        self._threads = threads

    def put_off(
        self,
        info: AnonInodeInfo,
        pages: tuple[int, int],
        waiting: Waiting,
        call: Callable[[AtFront], int],
        size: int = 0,
    ) -> None:
        """Have ``call`` answer a request for ``pages`` (first, count); it returns an errno.

        With the lock held. Raises AnonfsError: as `FrontThreads.submit`.
        """
        if info.front is None:
            raise TypeError("an inode without a front")
        receiver, ended = AtFront(waiting), threading.Lock()

        def end() -> None:
            """The request is answered, the first time that this is called."""
            if ended.acquire(blocking=False):
                with self._lock:
                    self._loaded.hold(info, *pages, -1)

        def run() -> None:
            error = call(receiver)
            if error:
                waiting.reply_error(error)
            end()

        def late() -> None:
            with self._lock:
                receiver.expired = not receiver.taken
            end()
            if receiver.expired:
                waiting.reply_error(errno.EIO)

        self._threads.submit(info.front.store.domain, run, late, size)
        self._loaded.hold(info, *pages, 1)
