"""Programs of packages that use /dev/shm, in several processes, with more data than budget."""

import re
from collections.abc import Callable

import pytest

from tests.support.programs import python
from tests.support.shm_exec import ShmExec

_SECONDS = 90.0
"""A bound: each takes some seconds."""

_BUDGET = 4 << 20

# What the counters of the mount say once the program is done.
_AND_COUNTERS = ("sh", "-c", '"$@" && grep ^swap_ /dev/shm/.anonfs/meminfo', "sh")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("array_sharers fork", "done"),
        ("array_sharers spawn", "done"),
        (f"batch_loader {4 * _BUDGET}", "32 batches"),
        ("shared_arrays", "done"),
        ("lmdb_writers /dev/shm/database 0", "done"),
        ("lmdb_writers /dev/shm/database 1", "done"),
    ],
)
def test_processes_share_more_than_the_budget(
    shm_exec: Callable[..., ShmExec], program: str, said: str
) -> None:
    name, *arguments = program.split()
    place = shm_exec(budget=str(_BUDGET))
    command = [*_AND_COUNTERS, *python("-m", f"tests.real.{name}", *arguments)]
    output = place.run(*command, seconds=_SECONDS).check()
    assert output.splitlines()[0] == said, output
    found = re.findall(r"^(swap_\w+) (\d+)", output, re.MULTILINE)
    counters = {name: int(value) for name, value in found}
    assert counters.pop("swap_out") > 0
    assert counters.pop("swap_in") > 0
    assert set(counters.values()) == {0}, "errors"
