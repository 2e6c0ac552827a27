"""A loader of batches: workers make them in segments, and one process takes and checks them.

``python -m tests.real.batch_loader BYTES`` moves so many, a third of them ahead of who takes them.
Each batch is a segment of its own, made by a worker and unlinked by who takes it.
"""

import multiprocessing
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

__all__: list[str] = []

_WORKERS = 2
_BATCH = 512 << 10
_SECONDS = 60.0
_FORK = multiprocessing.get_context("fork")


def _content(number: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(number).integers(0, 256, _BATCH, np.uint8)


def _load(wanted: Any, made: Any) -> None:
    while (number := wanted.get(timeout=_SECONDS)) is not None:
        segment = SharedMemory(create=True, size=_BATCH)
        np.ndarray(_BATCH, np.uint8, segment.buf)[:] = _content(number)
        segment.close()
        made.put((number, segment.name))


def _take(number: int, name: str) -> None:
    segment = SharedMemory(name)
    batch = np.ndarray(_BATCH, np.uint8, segment.buf)
    assert (batch == _content(number)).all(), f"batch {number} is wrong"
    del batch
    segment.close()
    segment.unlink()


def _main() -> None:
    batches = int(sys.argv[1]) // _BATCH
    ahead = batches // 3
    resource_tracker.ensure_running()  # or each worker would have its own, which unlinks all
    wanted, made = _FORK.Queue(), _FORK.Queue()
    workers = [
        _FORK.Process(target=_load, args=(wanted, made), daemon=True) for _ in range(_WORKERS)
    ]
    for worker in workers:
        worker.start()
    for number in range(ahead):
        wanted.put(number)
    taken, waiting = set(), []
    for number in range(ahead, batches + ahead):
        waiting.append(made.get(timeout=_SECONDS))
        if number < batches:
            wanted.put(number)
        # Those in front are the oldest: they are on swap by now.
        if len(waiting) >= ahead or number >= batches:
            taken.add(waiting[0][0])
            _take(*waiting.pop(0))
    while waiting:
        taken.add(waiting[0][0])
        _take(*waiting.pop(0))
    for _ in workers:
        wanted.put(None)
    for worker in workers:
        worker.join(_SECONDS)
    assert [worker.exitcode for worker in workers] == [0] * _WORKERS
    assert taken == set(range(batches))
    sys.stdout.write(f"{len(taken)} batches\n")


if __name__ == "__main__":
    _main()
