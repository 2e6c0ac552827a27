"""The judge finds what it is for: daemons with one fault each."""

from collections.abc import Callable

import pytest

from tests.judge.crowd import crowd_directory
from tests.judge.faults import FAULTS, RACES
from tests.judge.judge import judge_directory
from tests.judge.report import FaultFoundError
from tests.support.mounts import Mounted

_SEED = 1
_OPERATIONS = 4000
"""Some eight times what the slowest fault has taken over five seeds."""
_RACE_SECONDS = 90.0


def _with(mount_factory: Callable[..., Mounted], fault: str) -> Mounted:
    # No --check: the judge is to find it, not the daemon itself.
    program = ["-m", "tests.judge.planted", fault]
    return mount_factory(budget="2M", program=program, arguments=[])


@pytest.mark.parametrize("fault", FAULTS)
def test_judge_finds_a_planted_fault(mount_factory: Callable[..., Mounted], fault: str) -> None:
    mounted = _with(mount_factory, fault)
    with pytest.raises(FaultFoundError, match=f"seed {_SEED}, operation") as found:
        judge_directory(
            str(mounted.path), _SEED, _OPERATIONS, must_swap_out=True, rescue=mounted.abort
        )
    assert "wrong byte" in str(found.value)


@pytest.mark.parametrize("fault", RACES)
def test_crowd_finds_a_planted_race(mount_factory: Callable[..., Mounted], fault: str) -> None:
    mounted = _with(mount_factory, fault)
    mounted.expects_errors = True
    # Either a process sees old bytes, or the checksum does: that is EIO, or SIGBUS.
    with pytest.raises(FaultFoundError, match=r"wrong byte|Input/output error|status -7"):
        crowd_directory(
            str(mounted.path), _SEED, _RACE_SECONDS, must_swap_out=True, rescue=mounted.abort
        )
