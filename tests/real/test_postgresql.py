"""PostgreSQL with its dynamic shared memory on anonfs."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.conftest import skip_or_fail
from tests.support.programs import python
from tests.support.shm_exec import ShmExec, counters_in, then_counters

_SECONDS = 150.0
"""A bound: it takes a tenth of it."""


def _binaries() -> Path:
    """Where the newest server of the machine is; Debian has none of it on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    path = shutil.which("postgres", path=str(found[-1].parent) if found else None)
    if path is None:
        skip_or_fail("no PostgreSQL: install postgresql")
        raise AssertionError
    return Path(path).parent


def test_parallel_queries(shm_exec: Callable[..., ShmExec]) -> None:
    place = shm_exec(budget="8M")
    home = place.workplace / "postgres"
    home.mkdir()
    home.chmod(0o777)
    program = python("-m", "tests.real.parallel_queries", _binaries(), home)
    output = place.run(*then_counters(*program), seconds=_SECONDS).check()
    assert re.search(r"Workers Launched: [1-9]", output), output
    assert "Parallel Hash" in output, output
    assert "\ndone\n" in output
    assert counters_in(output)["swap_out"] > 0
