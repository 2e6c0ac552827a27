"""Several `worker` processes on one segment, and what the segment costs while they work.

A phase begins when each of them is known to wait for it: its time is from the first that began to
the last that ended. Memory is sampled meanwhile, by a thread of this process, which has nothing
else to do then.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from places import BenchError, Place
from worker import Done, Plan

__all__ = ["Crew", "Work", "crew"]

_PROGRAM = Path(__file__).with_name("worker.py")
_PATIENCE = 300.0
_FAREWELL = 60.0
_INTERVAL = 0.05


@dataclass(frozen=True)
class Work:
    """What a phase came to; ``memory`` are samples, in bytes."""

    parts: Sequence[Done]
    memory: Sequence[int]

    @property
    def rate(self) -> float:
        """Amount a second of all together."""
        seconds = max(part.end for part in self.parts) - min(part.begin for part in self.parts)
        return sum(part.amount for part in self.parts) / seconds

    @property
    def latency(self) -> float:
        """Seconds for one, as each of them sees it."""
        return sum((part.end - part.begin) / part.amount for part in self.parts) / len(self.parts)


class _Hand:
    """One worker process."""

    def __init__(self, fd: int, plan: Plan) -> None:
        arguments = [str(_PROGRAM), str(fd), json.dumps(asdict(plan))]
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[fd],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            process_group=0,
        )

    def tell(self, command: str) -> None:
        """Send a line; `answer` must follow."""
        with contextlib.suppress(BrokenPipeError):  # answer() says why
            _pipe(self.process.stdin).write(f"{command}\n".encode())
            _pipe(self.process.stdin).flush()

    def answer(self) -> str:
        """The line that it says to the last command. Raises BenchError: it says none."""
        output = _pipe(self.process.stdout)
        if not select.select([output], [], [], _PATIENCE)[0]:
            raise BenchError(f"a worker has not answered for {_PATIENCE:.0f} s")
        line = output.readline().decode().strip()
        if not line:
            raise BenchError(f"a worker ended: {self._last_words()}")
        return line

    def _last_words(self) -> str:
        lines = _pipe(self.process.stderr).read().decode(errors="replace").splitlines()
        return lines[-1] if lines else f"status {self.process.wait()}"

    def dismiss(self) -> None:
        """Have it end, one way or the other."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self.process.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_FAREWELL)
        self.process.kill()
        self.process.wait()
        _pipe(self.process.stdout).close()
        _pipe(self.process.stderr).close()


def _pipe(found: IO[bytes] | None) -> IO[bytes]:
    if found is None:
        raise ValueError("not a pipe")
    return found


class Crew:
    """Workers that have mapped a segment."""

    def __init__(self, place: Place, fd: int, hands: Sequence[_Hand]) -> None:
        self._place = place
        self._fd = fd
        self._hands = hands

    def run(self, phase: str) -> Work:
        """Have all of them do a phase. Raises BenchError: one found what it should not."""
        with _sampled(self._place, self._fd) as memory:
            answers = _all_told(self._hands, phase)
        return Work([Done(**json.loads(answer)) for answer in answers], memory)

    def run_one(self, phase: str) -> Work:
        """Have the first of them do it, alone."""
        return Work(
            [Done(**json.loads(answer)) for answer in _all_told(self._hands[:1], phase)], []
        )


def _all_told(hands: Sequence[_Hand], command: str) -> list[str]:
    for hand in hands:
        hand.tell(command)
    return [hand.answer() for hand in hands]


@contextlib.contextmanager
def crew(place: Place, fd: int, plan: Plan) -> Iterator[Crew]:
    """Workers for a file of that place, until the end of the block."""
    hands: list[_Hand] = []
    try:
        for rank in range(plan.workers):
            hands.append(_Hand(fd, replace(plan, rank=rank)))  # noqa: PERF401 - all are dismissed
        _check_memory(place, fd)
        for hand in hands:
            hand.answer()
            place.admit(hand.process.pid, plan.size)
        _all_told(hands, "map")
        yield Crew(place, fd, hands)
    finally:
        for hand in hands:
            hand.dismiss()


def _check_memory(place: Place, fd: int) -> None:
    """Raise BenchError where the sampler could not tell what the file costs."""
    try:
        place.memory(fd)
    except OSError as error:
        raise BenchError(f"what a file costs cannot be told: {error.strerror}") from error


@contextlib.contextmanager
def _sampled(place: Place, fd: int) -> Iterator[list[int]]:
    """Samples of what the file costs while the block runs."""
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_INTERVAL):
            samples.append(place.memory(fd))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()
        samples.append(place.memory(fd))
