"""Threads that wait for fronts: files of others, which may take long, or for ever.

A front may be on a disk, on a server that is gone, or on a file system of FUSE whose program means
harm. So those who wait for it are no request threads. They wait by *domain*, the user whose file
it is: eight threads each, so that nobody is in the way of another user. What was not done after
some seconds is *late*: its request is answered with an error then. Nothing in the kernel waits for
us for longer than that, reclaim first of all, which has to wait for pages that are being read.
"""

import errno
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from anonfs.errors import AnonfsError

__all__ = ["FrontThreads"]

_THREADS = 8
_MOST = 4096  # tasks of a domain
_MOST_BYTES = 64 << 20  # that they keep
_IDLE_SECONDS = 10.0


@dataclass(eq=False, slots=True)
class _Task:
    run: Callable[[], None]
    late: Callable[[], None]
    size: int
    deadline: float


@dataclass(slots=True)
class _Domain:
    queued: deque[_Task] = field(default_factory=deque)
    threads: int = 0
    idle: int = 0
    stuck: int = 0
    size: int = 0


class FrontThreads:
    """Runs tasks of domains; what was not done after ``seconds`` is late."""

    def __init__(self, seconds: float = 10.0) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._wanted = threading.Condition(self._lock)
        self._watched = threading.Condition(self._lock)
        self._domains: dict[int, _Domain] = {}
        self._running: dict[_Task, _Domain] = {}  # and those queued, the oldest first
        self._watching = False

    def submit(
        self, number: int, run: Callable[[], None], late: Callable[[], None], size: int = 0
    ) -> None:
        """Have ``run`` called, of domain ``number``; it raises nothing and keeps ``size`` bytes.

        ``late`` is called, once, if it does not end in time; so it may be called before it, too.

        Raises:
            AnonfsError: EIO, none of the domain's threads has come back in time; ENOMEM, too much
                is waiting.
        """
        task = _Task(run, late, size, time.monotonic() + self._seconds)
        with self._lock:
            domain = self._domains.setdefault(number, _Domain())
            if domain.stuck == _THREADS:
                raise AnonfsError(errno.EIO, "files under overlays do not answer")
            if len(domain.queued) >= _MOST or domain.size + size > _MOST_BYTES:
                raise AnonfsError(errno.ENOMEM, "too much waits for files under overlays")
            domain.size += size
            domain.queued.append(task)
            self._running[task] = domain
            if domain.idle >= len(domain.queued):
                self._wanted.notify_all()
            elif domain.threads < _THREADS:
                domain.threads += 1
                self._start(f"front-{number}", lambda: self._serve(number, domain))
            if not self._watching:
                self._watching = True
                self._start("front-watch", self._watch)

    @staticmethod
    def _start(name: str, call: Callable[[], None]) -> None:
        threading.Thread(target=call, name=name, daemon=True).start()

    def _serve(self, number: int, domain: _Domain) -> None:
        while (task := self._next(number, domain)) is not None:
            task.run()
            with self._lock:
                domain.size -= task.size
                if self._running.pop(task, None) is None:
                    domain.stuck -= 1

    def _next(self, number: int, domain: _Domain) -> _Task | None:
        """The next task that is not late, or None: this thread ends."""
        with self._lock:
            domain.idle += 1
            deadline = time.monotonic() + _IDLE_SECONDS
            while not domain.queued and (left := deadline - time.monotonic()) > 0:
                self._wanted.wait(left)
            domain.idle -= 1
            if domain.queued:
                return domain.queued.popleft()
            domain.threads -= 1
            if not domain.threads:
                del self._domains[number]
            return None

    def _watch(self) -> None:
        """Tell tasks that they are late; ends when nothing is left to be watched."""
        while True:
            with self._lock:
                task = next(iter(self._running), None)
                if task is None:
                    self._watching = False
                    return
                left = task.deadline - time.monotonic()
                if left > 0:
                    self._watched.wait(left)
                    continue
                domain = self._running.pop(task)
                if task in domain.queued:
                    domain.queued.remove(task)
                    domain.size -= task.size
                else:
                    domain.stuck += 1
            task.late()
