"""The calls that unloading makes of the kernel."""

import pytest

from anonfsd._unloading import _spans


@pytest.mark.parametrize(
    ("runs", "spans"),
    [
        ([(3, 2)], [(3, 2)]),
        ([(0, 1), (2, 1), (66, 1)], [(0, 67)]),
        ([(0, 1), (66, 1)], [(0, 1), (66, 1)]),
        ([(512, 512), (0, 1), (1080, 4)], [(0, 1), (512, 572)]),
        ([(5, 1), (0, 1), (3, 1)], [(0, 6)]),
    ],
)
def test_runs_that_are_near_are_waited_for_together(
    runs: list[tuple[int, int]], spans: list[tuple[int, int]]
) -> None:
    assert list(_spans(runs)) == spans
