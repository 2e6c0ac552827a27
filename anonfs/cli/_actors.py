"""The tour's children: real forked processes that do one thing at a time, when told to.

A child shares the parent's mappings, as forks do, and answers over a pipe. It ends with its
parent, whatever becomes of that.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from anonfs.cli._errors import CommandError

__all__ = ["Actor"]

_PR_SET_PDEATHSIG = 1
_ANSWER_SECONDS = 60
_FORK = multiprocessing.get_context("fork")


class Actor:
    """A forked child; ``actor.do(function, ...)`` runs it there and returns what it returned.

    The function is found in the child by its name in ``skills``, which the child has by fork.
    """

    def __init__(self, name: str, **skills: Callable[..., Any]) -> None:
        self.name = name
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_live, args=(theirs, skills, os.getpid()), name=name)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid or 0

    def do(self, skill: str, *arguments: Any) -> Any:
        """Have the child do something, and wait for it.

        Raises:
            CommandError: it failed there, died, or does not answer.
        """
        try:
            self._pipe.send((skill, arguments))
            if not self._pipe.poll(_ANSWER_SECONDS):
                raise CommandError(f"{self.name} does not answer")
            failure, result = self._pipe.recv()
        except (EOFError, BrokenPipeError):
            raise CommandError(f"{self.name} has died") from None
        if failure:
            raise CommandError(f"{self.name}: {failure}")
        return result

    def leave(self) -> None:
        """Let the child exit, and wait for that."""
        # Not by closing the pipe: the children have both its ends, too.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send(None)
        self._process.join(_ANSWER_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


def _live(pipe: "Connection[Any, Any]", skills: dict[str, Callable[..., Any]], parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:
        return
    while (order := pipe.recv()) is not None:
        skill, arguments = order
        try:
            pipe.send(("", skills[skill](*arguments)))
        except Exception as error:  # noqa: BLE001
            pipe.send((repr(error), None))
