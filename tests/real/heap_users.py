"""Processes of Python's multiprocessing that share ctypes arrays in a heap on the mount.

The heap is files that are unlinked and mapped at once, so the mapping alone keeps them.
``python -m tests.real.heap_users DIR METHOD`` says how much of the heap is there, and ``done``.
"""

import ctypes
import multiprocessing
import sys
import tempfile
from multiprocessing import heap, sharedctypes
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path
from typing import Any

__all__: list[str] = []

_PROCESSES = 4
_ROUNDS = 20
_NUMBERS = 256 * 1024
_ARRAYS = 3
_END_SECONDS = 60.0


def _place_heap(directory: str) -> None:
    heap.Arena._dir_candidates = [directory]  # type: ignore[attr-defined]
    tempfile.tempdir = directory


def _work(number: int, arrays: list[Any], counter: Any, barrier: Any) -> None:
    """Each process writes its stripe, and checks what its neighbour wrote the round before."""
    neighbour = (number + 1) % _PROCESSES
    for turn in range(1, _ROUNDS + 1):
        for array in arrays:
            array[number::_PROCESSES] = [turn * _PROCESSES + number] * len(
                range(number, _NUMBERS, _PROCESSES)
            )
        with counter.get_lock():
            counter.value += 1
        barrier.wait(_END_SECONDS)
        for array in arrays:
            seen = set(array[neighbour::_PROCESSES])
            assert seen == {turn * _PROCESSES + neighbour}, (number, turn, seen)
        barrier.wait(_END_SECONDS)


def _context(method: str) -> ForkContext | SpawnContext:
    return (
        multiprocessing.get_context("fork")
        if method == "fork"
        else multiprocessing.get_context("spawn")
    )


def _main() -> None:
    directory, method = sys.argv[1:]
    _place_heap(directory)
    context = _context(method)
    arrays = [sharedctypes.RawArray(ctypes.c_long, _NUMBERS) for _ in range(_ARRAYS)]
    counter, barrier = context.Value("l", 0), context.Barrier(_PROCESSES)
    workers = [
        context.Process(target=_work, args=(number, arrays, counter, barrier), daemon=True)
        for number in range(_PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(_END_SECONDS)
    assert [worker.exitcode for worker in workers] == [0] * _PROCESSES
    assert counter.value == _PROCESSES * _ROUNDS
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    areas = sum(f"{directory}/pym-" in line for line in maps.splitlines())
    sys.stdout.write(f"{areas} areas in the mount\ndone\n")


if __name__ == "__main__":
    _main()
