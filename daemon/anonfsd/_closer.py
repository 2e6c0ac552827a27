"""Closing descriptors in a thread of their own: close(2) may wait, and for us.

That of a file of a FUSE mount waits until its daemon has answered, which may be this one, or one
that never does. That of a userfaultfd waits for the lock of an address space.
"""

import contextlib
import os
import queue
import threading
from collections import Counter

__all__ = ["Closer"]


class Closer:
    """A thread that closes one after the other what is given to it; its ``name`` is for people."""

    def __init__(self, name: str) -> None:
        self.waiting: Counter[int] = Counter()
        """How many of each user were not closed yet."""
        self._name = name
        self._doomed: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def close(self, descriptor: int, uid: int = 0) -> None:
        """Close ``descriptor``, which is of user ``uid``."""
        self.waiting[uid] += 1
        self._doomed.put((descriptor, uid))

    def _run(self) -> None:
        while True:
            descriptor, uid = self._doomed.get()
            # Closed it is in any case; of a foreign file system the error may be any.
            with contextlib.suppress(OSError):
                os.close(descriptor)
            self.waiting[uid] -= 1
