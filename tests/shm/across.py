"""Segments, lists and arrays that go to other processes, as arguments and back as results.

Run as ``python -m tests.shm.across fork``, ``spawn`` or ``forkserver``; prints ``done``.
"""

import multiprocessing
import sys

import numpy as np

from anonfs.shm import ShareableList, SharedArray, SharedMemory, array

__all__: list[str] = []


def store(segment: SharedMemory, words: ShareableList[int], numbers: SharedArray) -> None:
    """In a child: store to each."""
    segment.buf[:5] = b"hello"
    words[1] = 7
    numbers += 1


def square(part: SharedArray) -> float:
    """In a child: change a view in place, and tell its sum from before."""
    total = float(part.sum())
    np.square(part, out=part)
    return total


def largest(part: SharedArray) -> tuple[SharedArray, SharedArray]:
    """In a child: views go back by name, too."""
    return part[part.argmax() :][:1], part[::-1]


def main() -> None:
    """Check all of it."""
    multiprocessing.set_start_method(sys.argv[1])
    segment = SharedMemory(create=True, size=100)
    words = ShareableList([1, 2, 3])
    numbers = array((4, 5), name="numbers")
    child = multiprocessing.Process(target=store, args=(segment, words, numbers))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert bytes(segment.buf[:5]) == b"hello"
    assert list(words) == [1, 7, 3]
    assert numbers.sum() == 20

    numbers[:] = np.arange(20).reshape(4, 5)
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, list(numbers)) == [10, 35, 60, 85]
        assert (numbers.ravel() == np.arange(20) ** 2).all()
        ((one, turned),) = pool.map(largest, [numbers[:, 2]])
        pool.close()
        pool.join()
    assert (one.item(), turned.tolist()) == (17**2, [17**2, 12**2, 7**2, 4])
    one[0] = -1
    assert numbers[3, 2] == turned[0] == -1
    assert one.shm is turned.shm

    for found in (segment, words.shm, numbers.shm):
        assert found is not None
        assert list(found.holders()) == [multiprocessing.current_process().pid]
        found.unlink()
    print("done")  # noqa: T201


if __name__ == "__main__":
    main()
