"""The lock of the engine: whoever looks at it or changes it holds this.

The event loop holds it whenever it runs and lets go only to wait for events, so a handler is as
undisturbed as if there were nothing else, and an ``await`` is where others may come in. Threads
that answer page faults, reclaim or swap take it for each piece of bookkeeping and let go of it
before they wait for anything: a disk, the kernel, another thread.

It is given to `trio.run` as an instrument. It is not reentrant.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

import trio

from anonfs.mm import Work

__all__ = ["EngineLock"]


class WorkAtOnce(Work, Protocol):
    """Work that can be done at once, or not."""

    def run_at_once(self) -> bool:
        """Do it if nothing has to be waited for; returns whether it was done."""


class EngineLock(trio.abc.Instrument):
    """A lock that the event loop holds while it is not waiting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def condition(self) -> threading.Condition:
        """Something to wait for with the lock given up meanwhile."""
        return threading.Condition(self._lock)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def keep(self) -> None:
        """Hold the lock for good: whoever wants it from now on waits until the process ends."""
        self._lock.acquire()

    @contextmanager
    def within(self, seconds: float) -> Iterator[bool]:
        """Hold the lock, or go on without it after ``seconds``; what it gives says which."""
        held = self._lock.acquire(timeout=seconds)
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    def perform(self, work: Work) -> None:
        """Do ``work`` from a thread that holds the lock, which is free meanwhile. Raises OSError.

        What was looked at before has to be looked at again.
        """
        self._lock.release()
        try:
            work.run()
        except BaseException:
            self._lock.acquire()
            work.abandon()
            raise
        self._lock.acquire()
        work.finish()

    def try_at_once(self, work: WorkAtOnce) -> bool:
        """As `perform`, unless ``work`` would have to wait, or fails; then it is abandoned.

        Returns whether it was done.
        """
        self._lock.release()
        try:
            done = work.run_at_once()
        finally:
            self._lock.acquire()
        if done:
            work.finish()
        else:
            work.abandon()
        return done

    # -- what trio calls -------------------------------------------------------------------

    def before_run(self) -> None:
        """The event loop begins."""
        self._lock.acquire()

    def before_io_wait(self, timeout: float) -> None:
        """The event loop is about to wait."""
        del timeout
        self._lock.release()

    def after_io_wait(self, timeout: float) -> None:
        """The event loop goes on."""
        del timeout
        self._lock.acquire()

    def after_run(self) -> None:
        """The event loop has ended."""
        self._lock.release()
