"""Programs that are told what to do in lines, and answer with lines.

Each of them says a line when it is ready, ends with its standard input, and is killed by the kernel
when we are: nothing outlives a benchmark.
"""

import contextlib
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from places import BenchError

__all__ = ["Program", "program"]

_PATIENCE = 120.0


class Program:
    """A program of ours that runs; made by `program`.

    Attributes:
        first: the line that it said when it was ready.
    """

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name
        self.first = self.answer()

    def ask(self, order: str) -> str:
        """Its answer to a line. Raises BenchError: there is none."""
        self.tell(order)
        return self.answer()

    def tell(self, order: str) -> None:
        """Give it a line."""
        with contextlib.suppress(BrokenPipeError):  # answer() says so
            _pipe(self._process.stdin).write(f"{order}\n")
            _pipe(self._process.stdin).flush()

    def answer(self) -> str:
        """The next line that it says. Raises BenchError: there is none."""
        output = _pipe(self._process.stdout)
        if not select.select([output], [], [], _PATIENCE)[0]:
            raise BenchError(f"{self._name} has not answered for {_PATIENCE:.0f} s")
        line = output.readline().strip()
        if not line:
            raise BenchError(f"{self._name} has ended")
        return line


@contextlib.contextmanager
def program(name: str, *arguments: str | int, pass_fds: Sequence[int] = ()) -> Iterator[Program]:
    """The program ``name`` beside this file, once it is ready, until the end of the block."""
    path = Path(__file__).with_name(f"{name}.py")
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, path, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=pass_fds,
        process_group=0,
        text=True,
    )
    try:
        yield Program(process, name)
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_PATIENCE)
        process.kill()
        process.wait()


def _pipe(found: IO[str] | None) -> IO[str]:
    if found is None:
        raise ValueError("not a pipe")
    return found
