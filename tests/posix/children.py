"""Processes that a test forks: every wait is bounded, and none outlives its test.

A child runs one function and answers over a pipe. What it must not do is return to pytest, so it
ends by ``os._exit`` whatever happens.
"""

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, Self, TypeVar

__all__ = [
    "NOBODY",
    "SECONDS",
    "STRANGER",
    "Child",
    "ChildError",
    "User",
    "as_user",
    "eventually",
    "fork",
    "hear",
    "in_child",
    "say",
]

SECONDS = 60.0
"""How long a child may take to say something or to end, on a machine that has much else to do."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_libc = ctypes.CDLL(None, use_errno=True)

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class User:
    """Whom a process runs as."""

    uid: int
    gid: int
    groups: Sequence[int] = ()


NOBODY = User(65534, 65534)
STRANGER = User(60001, 60001)


class ChildError(AssertionError):
    """A child failed, or said nothing in time."""


_talk: Connection | None = None


def _fork() -> int:
    with warnings.catch_warnings():
        # The other thread there may be is the one that times the test, which holds no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Child:
    """A forked process that runs ``function(*arguments)``; leaving the ``with`` block kills it.

    Args:
        function: what it runs.
        arguments: the function's own.
        user: whom it runs as, by default as the test.
        directory: where it works. A directory whose parents are closed to ``user`` will do.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *arguments: object,
        user: User | None = None,
        directory: Path | None = None,
    ) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        parent = os.getpid()
        self.pid = _fork()
        if self.pid == 0:
            self._pipe.close()
            _live(theirs, parent, user, directory, lambda: function(*arguments))
        theirs.close()
        self._pidfd = os.pidfd_open(self.pid)
        self._status: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._status is None:
                self.kill()
                self.wait()
        finally:
            os.close(self._pidfd)
            self._pipe.close()

    def said(self) -> Any:
        """What the child sends next; its result, if that is next."""
        if not self._pipe.poll(SECONDS):
            raise ChildError(f"child {self.pid} said nothing for {SECONDS:g} s")
        try:
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise ChildError(f"child {self.pid} ended with {self.wait()}") from None
        if kind == "error":
            raise ChildError(str(value))
        return value

    def has_said(self, seconds: float) -> bool:
        """Whether the child says something, or ends, within ``seconds``."""
        return self._pipe.poll(seconds)

    def await_exec(self) -> None:
        """Wait until the child, which has said all it has to say, runs another program."""
        if not self._pipe.poll(SECONDS):
            raise ChildError(f"child {self.pid} still runs its function")
        try:
            kind, value = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            return  # its end of the pipe is closed on exec
        raise ChildError(f"child {self.pid} says {kind}: {value}")

    def tell(self, message: object = None) -> None:
        """Send ``message`` to the child's `hear`."""
        self._pipe.send(message)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the child, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def wait(self) -> int:
        """How the child ended: its exit status, or minus the signal that ended it."""
        if self._status is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(SECONDS * 1000):
                raise ChildError(f"child {self.pid} did not end within {SECONDS:g} s")
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


def say(value: object) -> None:
    """In a child: send ``value`` to the test's `Child.said`."""
    assert _talk is not None, "not in a child"
    _talk.send(("value", value))


def hear() -> Any:
    """In a child: wait for the test's `Child.tell`."""
    assert _talk is not None, "not in a child"
    return _talk.recv()


def fork() -> int:
    """As os.fork, in a child of the test: it gets SIGKILL when the thread that forked it ends."""
    parent = os.getpid()
    pid = _fork()
    if pid == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return pid


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for what happens behind the back of whoever caused it, such as a RELEASE."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ChildError(f"not within {SECONDS:g} s: {what}")
        time.sleep(0.002)


def in_child(function: Callable[_P, _R], *arguments: _P.args, **keywords: _P.kwargs) -> _R:
    """What ``function`` returns in a process of its own."""
    with Child(lambda: function(*arguments, **keywords)) as child:
        result: _R = child.said()
        return result


def as_user(user: User, directory: Path, function: Callable[[Path], _R]) -> _R:
    """What ``function`` returns for ``user`` in ``directory``, which it gets as ``.``."""
    with Child(function, Path(), user=user, directory=directory) as child:
        result: _R = child.said()
        return result


def _live(
    pipe: Connection,
    parent: int,
    user: User | None,
    directory: Path | None,
    run: Callable[[], object],
) -> NoReturn:
    global _talk  # noqa: PLW0603  a child is a program of its own
    status = 1
    try:
        faulthandler.disable()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if directory is not None:
            os.chdir(directory)
        if user is not None:
            os.setgroups(list(user.groups))
            os.setresgid(user.gid, user.gid, user.gid)
            os.setresuid(user.uid, user.uid, user.uid)
        # Both are lost when the user changes.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _libc.prctl(_PR_SET_DUMPABLE, 1)
        if os.getppid() == parent:
            _talk = pipe
            pipe.send(("value", run()))
            status = 0
    except BaseException:  # noqa: BLE001  the test is told
        with contextlib.suppress(OSError):
            pipe.send(("error", traceback.format_exc()))
    finally:
        os._exit(status)
