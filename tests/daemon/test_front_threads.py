"""Threads that wait for fronts: by user, not for ever, and not for more than there is room for."""

import errno
import threading
from functools import partial

import pytest

from anonfs.errors import AnonfsError
from anonfsd._front_threads import FrontThreads
from tests.daemon.paged import make_late, soon

_OURS, _THEIRS = 1, 2
_THREADS = 8


def _nothing() -> None:
    """What is not late has nothing to do."""


def _refusal(threads: FrontThreads, number: int, size: int = 0) -> str:
    try:
        threads.submit(number, _nothing, _nothing, size)
    except AnonfsError as error:
        return errno.errorcode[error.errno or 0]
    return "taken"


def test_tasks_are_run_side_by_side() -> None:
    threads = FrontThreads()
    meeting = threading.Barrier(_THREADS + 1)
    for _ in range(_THREADS):
        threads.submit(_OURS, meeting.wait, pytest.fail)  # type: ignore[arg-type]
    meeting.wait(10)


def test_what_is_late_is_told_so_and_others_are_not_in_the_way() -> None:
    threads = FrontThreads(seconds=1000.0)
    gate = threading.Event()
    late: list[int] = []
    begun: list[int] = []
    done: list[int] = []

    def run(number: int) -> None:
        begun.append(number)
        gate.wait(10)
        done.append(number)

    def submit(numbers: range) -> None:
        for number in numbers:
            threads.submit(_OURS, partial(run, number), partial(late.append, number))

    submit(range(_THREADS))
    soon(lambda: len(begun) == _THREADS)
    submit(range(_THREADS, 2 * _THREADS))  # they are never begun
    make_late(threads)
    soon(lambda: len(late) == 2 * _THREADS)
    assert _refusal(threads, _OURS) == "EIO"
    other = threading.Event()
    threads.submit(_THEIRS, other.set, _nothing)
    assert other.wait(10)
    gate.set()
    soon(lambda: len(done) == _THREADS)
    soon(lambda: _refusal(threads, _OURS) == "taken")
    assert sorted(late) == list(range(2 * _THREADS))


def test_there_is_a_bound_to_what_waits() -> None:
    threads = FrontThreads()
    gate = threading.Event()
    threads.submit(_OURS, gate.wait, _nothing, 40 << 20)  # type: ignore[arg-type]
    assert _refusal(threads, _OURS, 40 << 20) == "ENOMEM"
    assert _refusal(threads, _THEIRS, 40 << 20) == "taken"
    gate.set()
    soon(lambda: _refusal(threads, _OURS, 40 << 20) == "taken")
