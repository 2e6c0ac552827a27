"""Read-ahead: has the kernel ask for what a stream will want next.

It is the kernel that asks, by posix_fadvise(2) on a file of the daemon's own, because it alone can
bring a page in without a race: a page pushed by FUSE_NOTIFY_STORE overwrites what a process has
stored to it meanwhile. The READs that follow are served as any others, side by side with what the
reader does.
"""

import errno
import logging
import os
import queue
import threading
from collections.abc import Callable

from anonfs.units import PAGE_SHIFT
from anonfsd._own_files import OwnFiles

__all__ = ["ReadAhead"]

log = logging.getLogger(__name__)

_WAITING = 16
_STEP = 256 << PAGE_SHIFT  # the read-ahead of a file of ours, see `Tuning`


class ReadAhead:
    """A thread that reads ahead in ``files``, as long as it is ``allowed`` to.

    ``on_open`` is called when it may have opened one, which is not to stay open.
    """

    def __init__(
        self, files: OwnFiles, allowed: Callable[[], bool], on_open: Callable[[], None]
    ) -> None:
        self._files = files
        self._allowed = allowed
        self._on_open = on_open
        self._asked: queue.SimpleQueue[tuple[int, int, int]] = queue.SimpleQueue()
        self._able = True

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._serve, name="read-ahead", daemon=True).start()

    def ask(self, ino: int, first: int, count: int) -> None:
        """Have ``count`` pages from ``first`` read, unless there is more to do than can be done."""
        if self._able and self._asked.qsize() < _WAITING:
            self._asked.put((ino, first, count))

    def _serve(self) -> None:
        while True:
            ino, first, count = self._asked.get()
            try:
                if self._allowed():
                    self._read(ino, first << PAGE_SHIFT, count << PAGE_SHIFT)
            except OSError as error:
                # Only root may open an inode by its number; anybody's may have gone.
                self._able = error.errno != errno.EPERM
                log.debug("no read-ahead of inode %d: %s", ino, error)
            finally:
                # Even where there was no file to be had the root of the mount was opened.
                self._on_open()

    def _read(self, ino: int, offset: int, length: int) -> None:
        with self._files.open(ino) as fd:
            for start in range(offset, offset + length, _STEP):
                size = min(_STEP, offset + length - start)
                os.posix_fadvise(fd, start, size, os.POSIX_FADV_WILLNEED)
