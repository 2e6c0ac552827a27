"""Processes that use the package SharedArray, each with an interpreter of its own.

``python -m tests.real.shared_arrays`` makes an array and has others of itself, started with its
name and a number, add to it.
"""

import subprocess
import sys

import numpy as np
import SharedArray  # type: ignore[import-not-found]

from tests.support.programs import python, tied_to_us

__all__: list[str] = []

_ARRAY = "shm://numbers"
_ROWS, _COLUMNS = 3, 1 << 19
_SECONDS = 60.0


def _add(number: int) -> None:
    array = SharedArray.attach(_ARRAY)
    array[number] += np.arange(_COLUMNS) * (number + 1)


def _main() -> None:
    array = SharedArray.create(_ARRAY, (_ROWS, _COLUMNS), float)
    array[:] = 7
    module = "tests.real.shared_arrays"
    others = [subprocess.Popen(tied_to_us(python("-m", module, number))) for number in range(_ROWS)]
    assert [other.wait(_SECONDS) for other in others] == [0] * _ROWS
    for number in range(_ROWS):
        assert (array[number] == np.arange(_COLUMNS) * (number + 1) + 7).all()
    (listed,) = SharedArray.list()
    assert (listed.name, listed.dims) == (b"numbers", (_ROWS, _COLUMNS))
    SharedArray.delete(_ARRAY)
    assert not SharedArray.list()
    assert array[1, 5] == 5 * 2 + 7, "who has it mapped keeps it"
    try:
        SharedArray.attach(_ARRAY)
    except FileNotFoundError:
        sys.stdout.write("done\n")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        _main()
    else:
        _add(int(sys.argv[1]))
