"""Answers to RELEASEs, given by a thread of its own.

Nobody waits for the answer to a RELEASE. But when it is the last one of a file that has no name any
more the kernel drops the pages of that file in the very call that answers it: 35 ms for 1 GiB, in
which whoever made the call would answer nobody else::

    RELEASE ──▶ request thread: handled, and on to the next ──▶ this thread ──▶ page after page

That of a file with a name is answered at once. Until it is the kernel keeps the inode, and whoever
unlinks the file next would not find its room given back when that is done.
"""

import queue
import threading

from anonfsd._replies import Later

__all__ = ["Releases"]

_END = 0


class Releases:
    """Gives answers to ``device``."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._handled: queue.SimpleQueue[int] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread, which ends with the process, or at `end`."""
        threading.Thread(target=self._give, name="releases", daemon=True).start()

    def answer(self, unique: int) -> None:
        """The RELEASE that is the request ``unique`` has been handled: answer it."""
        self._handled.put(unique)

    def end(self) -> None:
        """Answer no more after these."""
        self._handled.put(_END)

    def _give(self) -> None:
        while (unique := self._handled.get()) != _END:
            Later(self._device, unique).reply()
