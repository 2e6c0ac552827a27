"""The processes that do what the judge says: over a pipe, or in the judge's own process.

A remote answers every order within its time or is given up: a daemon that does not answer must
not make the judge wait for ever.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Protocol

from tests.judge._actor import Actor, Reply
from tests.judge._libc import die_with_parent
from tests.support.programs import environment, python

__all__ = ["CallFailedError", "Crew", "Local", "Member", "Remote", "Rescue", "leave_alone"]

_ANSWER_SECONDS = 30.0
_END_SECONDS = 3.0

Rescue = Callable[[], None]
"""What frees processes that wait for a daemon for ever: the mount's end."""


def leave_alone() -> None:
    """The `Rescue` of a file system that cannot be freed."""


class CallFailedError(Exception):
    """An order was not carried out: an errno, a death or silence."""


class Member(Protocol):
    """Who carries out an `Actor`'s operations."""

    @property
    def can_crash(self) -> bool:
        """Whether `crash` works here."""

    def call(self, operation: str, *arguments: object) -> Reply:
        """Do one operation and answer what it answered.

        Raises:
            CallFailedError: it did not work.
        """

    def crash(self) -> None:
        """Lose every descriptor and mapping as a killed process does, and start anew."""

    def end(self) -> None:
        """Give everything back."""


class Local:
    """A member in the judge's own process."""

    can_crash = False

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def call(self, operation: str, *arguments: object) -> Reply:
        """Do it here."""
        try:
            reply: Reply = getattr(self._actor, operation)(*arguments)
        except OSError as error:
            raise CallFailedError(str(error)) from error
        return reply

    def crash(self) -> None:
        """Not here."""
        raise NotImplementedError

    def end(self) -> None:
        """Leave it to the process's end."""


class Remote:
    """A member in a process of its own."""

    can_crash = True

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.is_silent = False
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        command = ["-m", "tests.judge._crew", theirs.fileno(), self._directory, os.getpid()]
        self._process = subprocess.Popen(
            python(*command), pass_fds=[theirs.fileno()], env=environment()
        )
        theirs.close()
        self._pipe = Connection(ours.detach())

    def call(self, operation: str, *arguments: object) -> Reply:
        """Have it done there."""
        try:
            self._pipe.send((operation, arguments))
            if not self._pipe.poll(_ANSWER_SECONDS):
                self.is_silent = True
                raise CallFailedError(f"no answer within {_ANSWER_SECONDS:g} s")
            works, reply = self._pipe.recv()
        except (EOFError, OSError):
            raise CallFailedError(f"the process died: {self._cause_of_death()}") from None
        if not works:
            raise CallFailedError(str(reply))
        answer: Reply = reply
        return answer

    def _cause_of_death(self) -> str:
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "unknown"
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def crash(self) -> None:
        """Kill the process and start another."""
        self._process.kill()
        self.end()
        self._start()

    def end(self) -> None:
        """Close the pipe, which ends the process, or kill it."""
        self._pipe.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)


class Crew:
    """Several remote members on one directory, for the time of a ``with`` block.

    ``rescue`` is called when one of them did not answer.
    """

    def __init__(self, directory: str, size: int, rescue: Rescue = leave_alone) -> None:
        self._directory = directory
        self._size = size
        self._rescue = rescue
        self.members: list[Remote] = []

    def __enter__(self) -> list[Remote]:
        try:
            for _ in range(self._size):
                self.members.append(Remote(self._directory))
            self.members[0].call("make_directory")
        except BaseException:
            self.__exit__()
            raise
        return self.members

    def __exit__(self, *_: object) -> None:
        if any(member.is_silent for member in self.members):
            self._rescue()
        else:
            with contextlib.suppress(CallFailedError, IndexError):
                self.members[0].call("remove_directory")
        for member in self.members:
            member.end()


def _serve() -> None:
    """What a remote's process runs."""
    fd, directory, parent = sys.argv[1:]
    die_with_parent(int(parent))
    pipe = Connection(int(fd))
    actor = Actor(directory)
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            operation, arguments = pipe.recv()
            try:
                answer = True, getattr(actor, operation)(*arguments)
            except OSError as error:
                answer = False, str(error)
            pipe.send(answer)


if __name__ == "__main__":
    _serve()
