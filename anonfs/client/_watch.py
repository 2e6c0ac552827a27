"""Watching: what happens to the files of a mount, as it happens.

    >>> from anonfs.client import connect
    >>> fs = connect()
    >>> with fs.watch("job-7", timeout=1.0) as events, fs.map("job-7", 1 << 20):
    ...     print(next(events).event)
    open

A watch reads the stream ``.anonfs/events``; what its lines say is the business of `anonfs.events`.
It has a descriptor of the mount, and so keeps it in use until it is closed. It is an iterator, or
has a thread that calls back; never both.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from anonfs.client._choice import find_mount
from anonfs.client._inspect import Target
from anonfs.client._tree import tree_file
from anonfs.events import EVENTS, Lost, VmEvent, parse_event_line

__all__ = ["Callback", "Watch", "WatchOperations", "watch"]

_READ_SIZE = 1 << 16


class WatchOperations(Protocol):
    """An object with a method for each event, after the kernel's vm_operations_struct."""

    def open(self, event: VmEvent, /) -> None:
        """A process has mapped a file, or has split an area."""

    def dup(self, event: VmEvent, /) -> None:
        """A fork has given an area to a child."""

    def close(self, event: VmEvent, /) -> None:
        """An area is gone."""

    def delete(self, event: VmEvent, /) -> None:
        """An inode is gone."""

    def fault(self, event: VmEvent, /) -> None:
        """Pages were handed out to be mapped."""

    def swapout(self, event: VmEvent, /) -> None:
        """Pages went to swap."""


Callback = Callable[[VmEvent], object] | WatchOperations
"""What is called for each event: a function, or the method of the event's name."""


class Watch:
    """The events of a mount, oldest first; made by `watch`. Leaving a ``with`` block closes it.

    Attributes:
        lost: how many events are missing before the one returned last, of any file: reading was
            too slow for them.
        error: what ended the thread that calls back, if something did.
    """

    def __init__(
        self,
        descriptor: int,
        inode: int | None,
        opened: float,
        *,
        past: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.lost = 0
        self.error: BaseException | None = None
        self._descriptor = descriptor
        self._thread: threading.Thread | None = None
        self._inode = inode
        self._opened = opened
        self._past = past
        self._catching_up = True
        self._timeout = timeout
        self._partial = b""
        self._lines: deque[VmEvent | Lost] = deque()
        self._ended = self._closed = False
        self._stopped, self._stop = os.pipe()

    def call_back(self, callback: Callback) -> None:
        """Have each event told to ``callback`` from now on, by a thread, until this is closed."""
        self._thread = threading.Thread(
            target=self._call_back, args=(callback,), name="anonfs-watch", daemon=True
        )
        self._thread.start()

    def fileno(self) -> int:
        """The stream's descriptor, for poll(2); readable when there may be an event.

        Raises:
            ValueError: the watch is closed.
        """
        if self._closed:
            raise ValueError("watch is closed")
        return self._descriptor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> VmEvent:
        """Wait for the next event.

        Raises:
            StopIteration: none came within the time-out, the mount is gone, the file that is
                followed is deleted, or this is closed.
            ValueError: the events go to a callback.
        """
        if self._thread is not None:
            raise ValueError("the events of this watch go to its callback")
        event = self._next()
        if event is None:
            raise StopIteration
        return event

    def _next(self) -> VmEvent | None:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            while self._lines and not self._closed:
                found = self._lines.popleft()
                if isinstance(found, VmEvent):
                    return found
                self.lost += found.events
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not self._wait(left):
                return None
            self._read()

    def _wait(self, seconds: float | None) -> bool:
        """Wait until there is something to read; False if nothing came, or comes any more."""
        if self._ended or self._closed:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._stopped, select.POLLIN)
        ready = poll.poll(None if seconds is None else seconds * 1000)
        return bool(ready) and all(fd != self._stopped for fd, _ in ready)

    def _read(self) -> None:
        """Take what there is."""
        try:
            data = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:  # the daemon is gone: no event will ever come
            data = b""
        self._ended = not data
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            if not self._ended:
                self._take(line.decode("ascii", "replace"))

    def _take(self, line: str) -> None:
        try:
            found = parse_event_line(line)
        except ValueError:  # of a newer daemon
            return
        if isinstance(found, Lost):
            self._lines.append(found)
            return
        # Once there is something new all is new, whatever becomes of the clock.
        self._catching_up = self._catching_up and found.time < self._opened
        if self._inode not in {None, found.inode} or (self._catching_up and not self._past):
            return
        is_end = self._inode is not None and found.event == "delete"
        if is_end and self._catching_up:
            self._lines.clear()  # of a file that had the number before
            return
        self._lines.append(found)
        self._ended = is_end

    def _call_back(self, callback: Callback) -> None:
        try:
            while (event := self._next()) is not None:
                _call(callback, event)
        except BaseException as error:
            self.error = error
            raise

    def close(self) -> None:
        """Follow no longer; the thread that calls back has ended then."""
        if self._closed:
            return
        self._closed = True
        os.write(self._stop, b"x")
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        for descriptor in (self._descriptor, self._stopped, self._stop):
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._thread is None:
            self.close()


def _call(callback: Callback, event: VmEvent) -> None:
    if callable(callback):
        callback(event)
    elif event.event in EVENTS:
        getattr(callback, event.event)(event)


def watch(
    target: Target | None = None,
    callback: Callback | None = None,
    *,
    past: bool = False,
    timeout: float | None = None,
    mount: str | os.PathLike[str] | None = None,
) -> Watch:
    """Follow what happens to the file ``target``, or to all files of a mount.

    Args:
        target: a file; by its inode, so its delete is the last event, and a later file of the same
            name is another one.
        callback: is called for each event by a thread of its own, until the watch is closed; or
            an object with methods open, dup, close, delete, fault and swapout to be called.
        past: whether to begin with what the daemon remembers of before, the last thousand events
            that are no faults or swap-outs; it tells only root and the mount's owner.
        timeout: for how many seconds to wait for an event before there is an end; None: for ever.
        mount: as for `connect`, where there is no target.

    Raises:
        NoMountError, DaemonGoneError: as `connect`.
        NotAnonfsError: the daemon has no events to tell.
        OSError: EMFILE, this user follows too many times already; as stat(2) of ``target``.
    """
    inode, now = None, time.time()
    if target is not None:
        handle = target if isinstance(target, str | os.PathLike | int) else target.fileno()
        inode = os.stat(handle).st_ino  # noqa: PTH116  a descriptor has no Path
        if mount is None and not isinstance(handle, int):
            mount = Path(handle).absolute().parent
    with tree_file(find_mount(mount), "events") as path:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found = Watch(descriptor, inode, now, past=past, timeout=timeout)
    if callback is not None:
        found.call_back(callback)
    return found
