"""The judge on a real mount, whose budget is a small part of the data."""

import os
from collections.abc import Callable

import pytest

from tests.judge.crowd import crowd_directory
from tests.judge.faults import DELAYS
from tests.judge.judge import judge_directory
from tests.support.mounts import Mounted

_SEEDS = range(6)
_OPERATIONS = 4000
_SECONDS = 7.0
"""A bound for slow machines; 4,000 operations take 4 s on two cores of 2024."""


def _judge(mounted: Mounted, seed: int) -> int:
    return judge_directory(
        str(mounted.path),
        seed,
        _OPERATIONS,
        seconds=_SECONDS,
        must_swap_out=True,
        rescue=mounted.abort,
    )


def _crowd(mounted: Mounted, seconds: float) -> int:
    place = str(mounted.path)
    return crowd_directory(place, 1, seconds, must_swap_out=True, rescue=mounted.abort)


@pytest.mark.parametrize("seed", _SEEDS)
def test_judge_finds_no_fault(mount_factory: Callable[..., Mounted], seed: int) -> None:
    assert _judge(mount_factory(budget="2M"), seed) > 200


def test_judge_finds_no_fault_with_a_fresh_seed(mounted: Mounted) -> None:
    _judge(mounted, int.from_bytes(os.urandom(4)))


def test_crowd_finds_no_fault(mount_factory: Callable[..., Mounted]) -> None:
    assert _crowd(mount_factory(budget="2M"), 8.0) > 200


@pytest.mark.parametrize("delay", DELAYS)
def test_crowd_finds_no_fault_while_swap_is_slow(
    mount_factory: Callable[..., Mounted], delay: str
) -> None:
    mounted = mount_factory(budget="2M", program=["-m", "tests.judge.planted", delay])
    assert _crowd(mounted, 5.0) > 100
