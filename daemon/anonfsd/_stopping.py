"""Stopping: brings an inode to a standstill and keeps it there while something is done with it.

Pages are dropped by one thread, and another sees to it that it goes on: the kernel may be waiting
for a READ that was stopped.
"""

import errno
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo
from anonfsd._engine_lock import EngineLock
from anonfsd._paging import Paging
from anonfsd._reclaim import Reclaim
from anonfsd._unloading import Unloading

__all__ = ["Stopping", "writes_are_told"]

_STALL_SECONDS = 0.005
_MOST_SECONDS = 10.0
_SETTLE_SECONDS = 2.0

_LINUX = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
_NO_COPIES = 6, 16  # of pages that are being written back, from here on


def writes_are_told() -> bool:
    """Whether a page counts as written back only when its WRITE has been answered."""
    return _LINUX >= _NO_COPIES


class Stopping:
    """Stops inodes that ``paging`` answers for, one at a time; for threads."""

    def __init__(
        self, lock: EngineLock, paging: Paging, reclaim: Reclaim, unloading: Unloading
    ) -> None:
        self._lock = lock
        self._paging = paging
        self._standstill = paging.standstill
        self._reclaim = reclaim
        self._unloading = unloading

    @contextmanager
    def stopped(self, info: AnonInodeInfo) -> Iterator[None]:
        """Nobody stores to a page of ``info``, and all that was stored is here or on its way.

        The lock of the inode is held at the beginning: what write(2) has filled must not be dropped
        and read anew before its WRITE has come.

        Raises OSError: a write-back failed; EBUSY, pages come back as fast as they go.
        """
        with self._lock:
            loaded = [(first, mask.size) for first, mask in self._paging.loaded.of(info)]
            self._standstill.begin(info, loaded)
        try:
            # Who unloads the same pages would wait for READs that are stopped, and we for him.
            with self._reclaim.alone(info):
                self._drop(info)
            yield
        finally:
            with self._lock:
                stopped = self._standstill.end()
            self._paging.go_on(stopped)

    def settle(self, info: AnonInodeInfo) -> None:
        """While stopped, and with the lock of the inode given up: have all here that is on its way.

        Only before Linux 6.16 a WRITE may be on its way whose page counts as written back.

        Raises OSError: as `Unloading.settle`; EBUSY, somebody who is stopped has the lock.
        """
        if writes_are_told():
            return
        settling = _Thread(lambda: self._unloading.settle(info.ino))
        if not settling.ended(_SETTLE_SECONDS):
            raise AnonfsError(errno.EBUSY, "somebody writes what has to be read first")

    def _drop(self, info: AnonInodeInfo) -> None:
        dropping = _Thread(lambda: self._drop_all(info))
        current = None
        while not dropping.ended(_STALL_SECONDS):
            with self._lock:
                stalls = self._standstill.current is current
                current = self._standstill.current
                let_go = self._standstill.let_go() if stalls else []
            self._paging.go_on(let_go)

    def _drop_all(self, info: AnonInodeInfo) -> None:
        deadline = time.monotonic() + _MOST_SECONDS
        while True:
            with self._lock:
                run = self._standstill.next()
            if run is None:
                return
            if time.monotonic() > deadline:
                raise AnonfsError(errno.EBUSY, "it does not come to a standstill")
            self._reclaim.unload(info, *run)


class _Thread:
    """A thread that does ``work``."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="standstill", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001  it is for whoever waits
            self._error = error

    def ended(self, seconds: float) -> bool:
        """Whether it ends within ``seconds``; raises what ``work`` raised."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True
