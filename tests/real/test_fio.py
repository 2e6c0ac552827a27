"""fio writes four times the budget with a checksum in every block, and reads it back."""

import json
from collections.abc import Callable

import pytest

from tests.support.mounts import Mounted
from tests.support.swapper import swap_out_once, swapping

_SECONDS = 150.0
"""A bound: the slowest takes a tenth of it."""

_JOB = (
    "--name=job",
    "--size=64M",
    "--bsrange=4k-64k",
    "--rw=randwrite",
    "--verify=crc32c",
    "--verify_fatal=1",
    "--fallocate=none",
    "--randseed=1",
    "--output-format=json",
)


@pytest.mark.timeout(3 * _SECONDS)
@pytest.mark.parametrize("engine", ["mmap", "psync"])
def test_fio_reads_back_what_it_wrote(
    mount_factory: Callable[..., Mounted], need_program: Callable[[str], str], engine: str
) -> None:
    mounted = mount_factory(budget="16M")
    command = [need_program("fio"), *_JOB, f"--directory={mounted.path}", f"--ioengine={engine}"]
    with swapping(mounted):
        _expect_no_error(mounted.run(command, _SECONDS).check())
    swap_out_once(mounted)
    _expect_no_error(mounted.run([*command, "--verify_only"], _SECONDS).check())


def _expect_no_error(output: str) -> None:
    # Warnings come before the JSON.
    jobs = json.loads(output[output.index("{\n") :])["jobs"]
    assert [job["error"] for job in jobs] == [0]
