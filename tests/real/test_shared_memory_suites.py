"""The test suites of others that use /dev/shm, as they are, with anonfs there."""

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.support.programs import python
from tests.support.shm_exec import ShmExec, counters_in, then_counters

_SECONDS = 120.0
"""A bound: the slowest takes a fifth of it."""

Factory = Callable[..., ShmExec]

_CPYTHON = (
    "SharedMemory",
    "SharedCTypes",
    "TestHeap",
    "ProcessesTestSemaphore",
    "ProcessesTestLock",
)

# Slow, and about Windows or processes that end; and with loky, what multiprocessing has as well.
_JOBLIB_SLOW = (
    "windows or silent or many_parallel or array_view or different_memory"
    " or loky and (big_offset or pool_with_memmap or child_raises or workaround or disabled)"
)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_cpython(shm_exec: Factory, method: str) -> None:
    """Shared memory, ctypes and the heap below them, and semaphores."""
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        skip_or_fail(f"the Python in {sys.base_prefix} has no test package: install it")
    chosen = [word for name in _CPYTHON for word in ("-k", name)]
    program = python("-m", "unittest", *chosen, f"tests.real.cpython_{method}")
    output = shm_exec().run(*program, seconds=_SECONDS).check()
    ran = re.search(r"^Ran (\d+) tests", output, re.MULTILINE)
    assert ran is not None, output
    assert int(ran[1]) >= 20, output
    assert re.search(r"^OK$", output, re.MULTILINE), output


def test_posix_ipc(shm_exec: Factory) -> None:
    """Its tests are in its source distribution alone, which scripts/test gets."""
    version = importlib.metadata.version("posix_ipc")
    source = Path(sys.prefix) / "sources" / f"posix_ipc-{version}"
    if not source.is_dir():
        skip_or_fail(f"{source} is missing: run scripts/test")
    suites = ("tests.test_memory", "tests.test_semaphores", "tests.test_module")
    program = ["env", "-C", source, *python("-m", "unittest", *suites)]
    output = shm_exec().run(*program, seconds=_SECONDS).check()
    assert re.search(r"^Ran (4|5)\d tests", output, re.MULTILINE), output
    assert re.search(r"^OK$", output, re.MULTILINE), output


def test_joblib(shm_exec: Factory) -> None:
    """It takes /dev/shm for its memmaps where that has 2 GB."""
    place = shm_exec(budget="16M", swap_size="2G")
    chosen = ["-k", f"not ({_JOBLIB_SLOW})", "--pyargs", "joblib.test.test_memmapping"]
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", f"--basetemp={place.workplace}/tmp"]
    program = python("-m", "pytest", *options, *chosen)
    output = place.run(*then_counters(*program), seconds=_SECONDS).check()
    assert counters_in(output)["writeback_pages"] > 0, "it went elsewhere"
    passed = re.search(r"^(\d+) passed", output, re.MULTILINE)
    assert passed is not None, output
    assert int(passed[1]) >= 25, output
