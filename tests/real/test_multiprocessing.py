"""Python's multiprocessing with its heap of shared memory on the mount."""

import re
from collections.abc import Callable

import pytest

from tests.support.mounts import Mounted
from tests.support.programs import python
from tests.support.swapper import swapping

_SECONDS = 150.0
"""A bound: it takes some seconds."""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_share_a_heap(mount_factory: Callable[..., Mounted], method: str) -> None:
    mounted = mount_factory(budget="2M")
    program = python("-m", "tests.real.heap_users", mounted.path, method)
    with swapping(mounted):
        output = mounted.run(program, _SECONDS).check()
    found = re.search(r"(\d+) areas in the mount\ndone", output)
    assert found is not None, output
    assert int(found[1]) > 0
