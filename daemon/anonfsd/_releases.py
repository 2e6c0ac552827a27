"""Answers to RELEASEs, given by a thread of its own.

Nobody waits for the answer to a RELEASE. But when it is the last one of a file that has no name any
more the kernel drops the pages of that file in the very call that answers it: 35 ms for 1 GiB, in
which whoever made the call would answer nobody else::

    RELEASE ──▶ pyfuse3 ──▶ its answer, one of many ──▶ this thread ──▶ /dev/fuse: page after page

So those who take requests tell which of them are RELEASEs, and who passes answers on leaves those
of RELEASEs to here.
"""

import contextlib
import os
import queue
import struct
import threading

__all__ = ["Releases"]

_UNIQUE = struct.Struct("=8xQ")  # of fuse_out_header, after len and error


class Releases:
    """Gives answers to ``device``."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._expected: set[int] = set()
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread, which ends with the process, or at `end`."""
        threading.Thread(target=self._give, name="releases", daemon=True).start()

    def expect(self, unique: int) -> None:
        """The request ``unique`` is a RELEASE that somebody else is going to answer."""
        self._expected.add(unique)

    def takes(self, answer: memoryview) -> bool:
        """Whether ``answer`` is given here, being one to a RELEASE that was expected."""
        (unique,) = _UNIQUE.unpack_from(answer)
        if unique not in self._expected:
            return False
        self._expected.discard(unique)
        self.give(bytes(answer))
        return True

    def give(self, answer: bytes) -> None:
        """Give this answer to a RELEASE."""
        self._answers.put(answer)

    def end(self) -> None:
        """Give no more answers after these."""
        self._answers.put(b"")

    def _give(self) -> None:
        while answer := self._answers.get():
            # The connection is gone, and so is whoever waited.
            with contextlib.suppress(OSError):
                os.write(self._device, answer)
