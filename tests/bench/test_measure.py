"""What is counted, in which order, and when it is good enough."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from measure import Better, Metric, Readings, Sample, Side, measure
from places import Place

TIME = Metric("time", "s")
OWN = Metric("own", "s")


def places() -> tuple[list[Side], list[str]]:
    """Two sides, and the names of the places as they are opened."""
    opened: list[str] = []

    def side(name: str) -> Side:
        @contextlib.contextmanager
        def opening() -> Iterator[Place]:
            opened.append(name)
            yield Place(name, Path("/"))

        return Side(name, opening)

    return [side("anonfs"), side("peer")], opened


def scenario(place: Place) -> Iterator[Sample]:
    yield TIME, 1.0 if place.name == "anonfs" else 4.0
    if place.name == "anonfs":
        yield OWN, 3.0


def test_the_order_alternates_and_run_0_is_not_counted() -> None:
    sides, opened = places()
    shared, own = measure(scenario, sides, range(3), lambda _: None)
    assert opened == ["anonfs", "peer", "peer", "anonfs", "anonfs", "peer"]
    assert (shared.anonfs, shared.peer, shared.ratios) == ([1.0] * 2, [4.0] * 2, [0.25] * 2)
    assert (own.anonfs, own.ratios) == ([3.0] * 2, [])


def test_there_need_not_be_a_peer() -> None:
    sides, _ = places()
    assert [one.ratios for one in measure(scenario, sides[:1], range(1, 2), lambda _: None)] == [
        [],
        [],
    ]


@pytest.mark.parametrize(
    ("metric", "anonfs", "verdict"),
    [
        (Metric("", "", target=1.0), [1.0, 1.0, 9.0], True),
        (Metric("", "", target=1.0), [1.0, 3.0, 3.0], False),
        (Metric("", "", Better.HIGHER, target=1.5), [4.0, 4.0, 1.0], True),
        (Metric("", "", Better.HIGHER, target=2.5), [4.0, 4.0, 9.0], False),
        (Metric("", "", bound=4.0), [4.0, 4.0, 4.0], True),
        (Metric("", "", bound=4.0), [1.0, 1.0, 4.1], False),
        (Metric("", "", target=9.0, bound=4.0), [1.0, 1.0, 4.1], False),
        (Metric("", ""), [1.0, 1.0, 1.0], None),
    ],
)
def test_a_target_is_for_the_median_and_a_bound_for_every_run(
    metric: Metric, anonfs: list[float], verdict: bool | None
) -> None:
    assert Readings(metric, anonfs, [2.0, 2.0, 2.0]).on_target is verdict
