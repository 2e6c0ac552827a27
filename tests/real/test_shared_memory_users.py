"""Programs of packages that use /dev/shm, in several processes, with more data than budget."""

from collections.abc import Callable

import pytest

from tests.support.programs import python
from tests.support.shm_exec import ShmExec, counters_in, then_counters

_SECONDS = 150.0
"""A bound: each takes some seconds."""

_BUDGET = 4 << 20


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
    command = python("-m", f"tests.real.{name}", *arguments)
    output = place.run(*then_counters(*command), seconds=_SECONDS).check()
    assert output.splitlines()[0] == said, output
    counters = counters_in(output)
    assert counters["swap_out"] > 0
    assert counters["swap_in"] > 0
    assert not any(counters[name] for name in counters if name.endswith("_errors"))
