"""Work: the part of an engine call that blocks, cut out so that a thread can do it.

An engine call that needs swap I/O changes no state but hands out a piece of work::

    begin   (with the lock)   picks pages, pins slots or frames, makes a private buffer
    run     (any thread)      moves bytes between buffer or frames and the store, nothing else
    finish  (with the lock)   looks again at what may have changed meanwhile, then publishes
    abandon (with the lock)   in place of finish when run failed: everything as before begin

The lock is the caller's, one for the whole engine. What run reads and writes is pinned or in I/O,
so that nobody changes it; so the bookkeeping needs no other lock, and never waits for a disk.
"""

from typing import Protocol

__all__ = ["Work", "perform"]


class Work(Protocol):
    """A piece of blocking work between two synchronous halves."""

    def run(self) -> None:
        """Do the I/O. Raises OSError."""

    def finish(self) -> None:
        """Publish the result."""

    def abandon(self) -> None:
        """Give back what begin took."""


def perform(work: Work) -> None:
    """Do ``work`` here and now, for callers that have no event loop. Raises OSError."""
    try:
        work.run()
    except BaseException:
        work.abandon()
        raise
    work.finish()
