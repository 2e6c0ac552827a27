"""The kernel's lock of an inode, held while pages of it are dropped.

write(2) fills pages of the page cache and sends their bytes in a WRITE, and only then are they what
a READ would bring. If the pages are dropped in between, and read anew before the WRITE is taken,
the page cache shows old bytes for as long as it has them. Reclaim by the kernel passes over pages
that are being sent; an invalidation does not. But write(2) holds the lock of its inode all the
while, and so does setxattr(2) until it is answered::

    this thread                  the thread that is to hold the lock
    setxattr(file of our own)
      waits for the lock
      SETXATTR ──▶ request threads ──▶ `granted`
                                       drops pages
      ◀── the answer ◀──────────────── the end of `held`

Each user has a lock and a thread of his own: what he is granted must not be another's. A swap-out
on request holds the lock anyhow, since it is a SETXATTR itself.
"""

import logging
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from anonfsd._own_files import OwnFiles
from anonfsd._replies import Later

__all__ = ["InodeLock"]

log = logging.getLogger(__name__)

_NAME = "user.anonfs.lock"
_NOT_GRANTED = 0


class InodeLock:
    """Takes the lock of one inode at a time of the mount connected by ``device``.

    ``thread`` is the id of the thread that waits for locks, once it has started.
    """

    def __init__(self, device: int, files: OwnFiles) -> None:
        self._device = device
        self._files = files
        self._asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.thread = 0
        self._answers: queue.SimpleQueue[int] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread that waits for locks, which ends with the process."""
        threading.Thread(target=self._serve, name="inode-lock", daemon=True).start()

    @contextmanager
    def held(self, ino: int) -> Iterator[None]:
        """Hold the lock of inode ``ino``; by one thread, which holds nothing that others wait for.

        Without root, who alone may open an inode by its number, and for an inode that the kernel
        has forgotten, there is no lock to be had.
        """
        self._asked.put(ino)
        unique = self._answers.get()
        try:
            yield
        finally:
            if unique != _NOT_GRANTED:
                Later(self._device, unique).reply()

    def granted(self, unique: int) -> None:
        """The SETXATTR of our thread has come, as request ``unique``."""
        self._answers.put(unique)

    def _serve(self) -> None:
        self.thread = threading.get_native_id()
        while True:
            ino = self._asked.get()
            try:
                with self._files.open(ino) as fd:
                    os.setxattr(fd, _NAME, b"")
            except OSError as error:
                log.debug("no lock of inode %d: %s", ino, error)
                self._answers.put(_NOT_GRANTED)
