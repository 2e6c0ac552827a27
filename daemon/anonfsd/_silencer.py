"""Silencing: a userfaultfd of which nobody wants to hear any more.

To close it is enough where the daemon alone has it. But the process may have kept a duplicate, and
then each of its forks would wait for a reader for ever. So its areas are unregistered first. A fork
may have come before that and have its event in the making, so what still comes is read for a while.
"""

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from anonfsd._userfaultfd import Fork, Span, read_events, unregister

__all__ = ["Silencer"]

_LINGER_SECONDS = 5.0
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class _Unwanted:
    """A userfaultfd, what it reports on, and whether reading it is as of a `Fork`'s."""

    descriptor: int
    spans: Sequence[Span]
    private: bool

    def hush(self) -> None:
        """Let those go on who wait, and forget what they report."""
        with contextlib.suppress(OSError):
            for event in read_events(self.descriptor, private=self.private):
                if isinstance(event, Fork):
                    os.close(event.descriptor)


class Silencer:
    """A thread that silences and closes: it waits for the locks of address spaces."""

    def __init__(self) -> None:
        self._new: queue.SimpleQueue[_Unwanted] = queue.SimpleQueue()
        self._lingering: deque[tuple[float, _Unwanted]] = deque()

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._run, name="attachments-silencer", daemon=True).start()

    def silence(self, descriptor: int, spans: Sequence[Span], *, private: bool) -> None:
        """Silence and close ``descriptor``, which reports on ``spans``; ``private`` as to read."""
        self._new.put(_Unwanted(descriptor, spans, private))

    def _run(self) -> None:
        while True:
            with contextlib.suppress(queue.Empty):
                self._begin(self._new.get(timeout=_PAUSE if self._lingering else None))
            for _, unwanted in self._lingering:
                unwanted.hush()
            while self._lingering and self._lingering[0][0] <= time.monotonic():
                os.close(self._lingering.popleft()[1].descriptor)

    def _begin(self, unwanted: _Unwanted) -> None:
        # Who waits is let go first: to unregister may take until another thread of it goes on.
        unwanted.hush()
        unregister(unwanted.descriptor, unwanted.spans)
        self._lingering.append((time.monotonic() + _LINGER_SECONDS, unwanted))
