"""The calls that unloading makes of the kernel."""

import errno
import os
import struct
from typing import Any

import pytest

from anonfs.errors import AnonfsError
from anonfsd._unloading import Unloading, _spans


class NoFiles:
    """Files that cannot be opened."""

    def __init__(self, error: int) -> None:
        self._error = error

    def open(self, _ino: int) -> Any:
        raise AnonfsError(self._error)


@pytest.mark.parametrize("error", [errno.EPERM, errno.ESTALE])
def test_without_a_file_of_our_own_nothing_is_written_back_or_dropped(error: int) -> None:
    told, device = os.pipe()
    files: Any = NoFiles(error)
    unloading = Unloading(device, files)
    assert not unloading.write_back(7)
    unloading.forget_attributes(1)
    assert struct.unpack("=IiQQqq", os.read(told, 100)) == (40, 2, 0, 1, -1, 0)
    os.close(told)
    os.close(device)


def test_a_write_back_that_fails_is_told() -> None:
    files: Any = NoFiles(errno.EIO)
    with pytest.raises(AnonfsError):
        Unloading(-1, files).write_back(7)


@pytest.mark.parametrize(
    ("runs", "spans"),
    [
        ([(3, 2)], [(3, 2)]),
        ([(0, 1), (2, 1), (66, 1)], [(0, 67)]),
        ([(0, 1), (66, 1)], [(0, 1), (66, 1)]),
        ([(512, 512), (0, 1), (1080, 4)], [(0, 1), (512, 572)]),
        ([(5, 1), (0, 1), (3, 1)], [(0, 6)]),
    ],
)
def test_runs_that_are_near_are_waited_for_together(
    runs: list[tuple[int, int]], spans: list[tuple[int, int]]
) -> None:
    assert list(_spans(runs)) == spans
