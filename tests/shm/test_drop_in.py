"""Our classes in the place of the standard library's, and beside them."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

from tests.conftest import skip_or_fail
from tests.shm.conftest import Run


@pytest.fixture
def need_cases() -> None:
    """Skips, or fails on CI, where Python was installed without its tests."""
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        skip_or_fail("no test._test_multiprocessing: install libpython3-testsuite")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_cpythons_tests(need_cases: None, run: Run, method: str) -> None:
    del need_cases
    output = run("tests.shm.cpython", method)
    found = re.search(r"Ran (\d+) tests in .*\n\nOK\n", output)
    assert found is not None, output
    assert int(found[1]) >= 11


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a /dev/shm of its own")
def test_both_on_dev_shm(run: Run, mount: Path) -> None:
    there = f'mount --bind {mount} /dev/shm && exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", there, "sh"]
    assert run("tests.shm.beside", before=before, point=Path("/dev/shm")) == "done\n"
