"""A scenario with two processes that pass data through a ring buffer which stays loaded."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import kernel_sysv
from measure import Better, Metric, Sample
from pages import MIB
from passing import BUFFER, SLICE, SLOT
from places import BenchError, Place
from segments import SYSV

__all__ = ["Passed"]

_PROGRAM = Path(__file__).with_name("passing.py")
_PATIENCE = 60.0
_RESIDENT = 0.95


@dataclass(frozen=True)
class Passed:
    """So many slots are passed; on anonfs through a file, whatever the peer takes."""

    slots: int
    peer: str = ""

    @property
    def __name__(self) -> str:
        return "a ring buffer"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Bytes a second, as the receiver sees it."""
        name = "ring buffer, two processes"
        metric = Metric(name, "MiB/s", Better.HIGHER, target=_RESIDENT, peer_does=self.peer)
        if self.peer == SYSV and not place.daemon:
            number, memory = kernel_sysv.attach_new(BUFFER)
            seconds = _pass("sysv", number, self.slots)
            kernel_sysv.detach(memory)
        else:
            with place.scratch() as fd:
                os.ftruncate(fd, BUFFER)
                seconds = _pass("file", fd, self.slots)
        yield metric, SLICE * SLOT / MIB / seconds


def _pass(kind: str, number: int, slots: int) -> float:
    """Seconds of a slice, as the receiver sees it."""
    with contextlib.ExitStack() as stack:
        both = [
            stack.enter_context(_started(role, kind, number, slots)) for role in ("send", "receive")
        ]
        for process in both:
            _line(process)
        for process in both:
            _pipe(process.stdin).write("\n")
            _pipe(process.stdin).flush()
        return [float(_line(process)) for process in both][1]


@contextlib.contextmanager
def _started(role: str, kind: str, number: int, slots: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(_PROGRAM), role, kind, str(number), str(slots)]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[number] if kind == "file" else [],
        process_group=0,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    output = _pipe(process.stdout)
    if not select.select([output], [], [], _PATIENCE)[0]:
        raise BenchError(f"who passes data has not answered for {_PATIENCE:.0f} s")
    line = output.readline().strip()
    if not line:
        raise BenchError("who passes data has ended")
    return line


def _pipe(found: IO[str] | None) -> IO[str]:
    if found is None:
        raise ValueError("not a pipe")
    return found
