"""SQLite in WAL mode: its index is a mapping that all connections share, under fcntl locks."""

from collections.abc import Callable

from tests.real.sqlite_writers import WRITERS
from tests.support.mounts import Mounted
from tests.support.programs import python
from tests.support.swapper import swap_out_once, swapping

_SECONDS = 150.0
"""A bound: it takes some seconds."""


def test_writers_at_the_same_time_lose_nothing(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory(budget="4M")
    program = python("-m", "tests.real.sqlite_writers", mounted.path / "database")
    with swapping(mounted):
        output = mounted.run(program, _SECONDS).check()
    assert output.count("done") == WRITERS + 1
    swap_out_once(mounted)
    mounted.run([*program, "check"], _SECONDS).check()
