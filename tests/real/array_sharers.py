"""Processes that share numpy arrays through multiprocessing.shared_memory.

``python -m tests.real.array_sharers METHOD`` has each of them write a part of every array and check
what its neighbour wrote, again and again, with more in the arrays than the budget holds.
"""

import multiprocessing
import sys
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import numpy.typing as npt

__all__: list[str] = []

_PROCESSES = 3
_ARRAYS = 4
_ROWS, _COLUMNS = 384, 1024
_ROUNDS = 2
_END_SECONDS = 60.0

_Array = npt.NDArray[np.floating[Any]]


def _view(segment: SharedMemory) -> _Array:
    return np.ndarray((_ROWS, _COLUMNS), np.float64, segment.buf)


def _expected(turn: int, number: int, array: int) -> _Array:
    return np.arange(_COLUMNS) * 1.5 + turn * 10_000 + number * 100 + array


def _work(number: int, names: list[str], barrier: Any) -> None:
    segments = [SharedMemory(name) for name in names]
    neighbour = (number + 1) % _PROCESSES
    for turn in range(_ROUNDS):
        for index, segment in enumerate(segments):
            _view(segment)[number::_PROCESSES] = _expected(turn, number, index)
        barrier.wait(_END_SECONDS)
        for index, segment in enumerate(segments):
            seen = _view(segment)[neighbour::_PROCESSES]
            assert (seen == _expected(turn, neighbour, index)).all(), (number, turn, index)
        barrier.wait(_END_SECONDS)
    for segment in segments:
        segment.close()


def _main() -> None:
    context: Any = multiprocessing.get_context(sys.argv[1])
    segments = [SharedMemory(create=True, size=8 * _ROWS * _COLUMNS) for _ in range(_ARRAYS)]
    names, barrier = [segment.name for segment in segments], context.Barrier(_PROCESSES)
    workers = [
        context.Process(target=_work, args=(number, names, barrier), daemon=True)
        for number in range(_PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(_END_SECONDS)
    assert [worker.exitcode for worker in workers] == [0] * _PROCESSES
    for index, segment in enumerate(segments):
        for number in range(_PROCESSES):
            assert (
                _view(segment)[number::_PROCESSES] == _expected(_ROUNDS - 1, number, index)
            ).all()
        segment.close()
        segment.unlink()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    _main()
