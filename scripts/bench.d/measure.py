"""What is measured, and how often: metrics, scenarios, groups, readings.

A scenario is one function that does the same on any `Place` and yields a sample for each of its
metrics. Machines are shared and slow down and speed up, so a run takes both places one right after
the other, and what is compared is the ratio within a run, never a mean over runs::

    run 0   scenario on anonfs, scenario on tmpfs   ->  not counted: memory gets warm
    run 1   scenario on tmpfs, scenario on anonfs   ->  ratio 1      the order alternates
    run 2   scenario on anonfs, scenario on tmpfs   ->  ratio 2
    ...                                                 median, smallest, largest

The first run pays for memory that a virtual machine has not touched before.

It knows no file system: see `places`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from places import Place

__all__ = ["Better", "Group", "Metric", "Readings", "Sample", "Scenario", "measure"]


class Better(StrEnum):
    """Which way a metric improves."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True)
class Metric:
    """A named number; ``target`` is the worst ratio to the peer that is good enough.

    ``peer`` says what the peer does in its place, where that is not the very same.
    """

    name: str
    unit: str
    better: Better = Better.LOWER
    target: float | None = None
    peer: str = ""


Sample = tuple[Metric, float]
Scenario = Callable[[Place], Iterator[Sample]]


@dataclass(frozen=True)
class Group:
    """Scenarios that share a mount with this budget and swap (sizes as the daemon takes them)."""

    about: str
    scenarios: Sequence[Scenario]
    budget: str = "512M"
    swap_size: str = "1G"


@dataclass
class Readings:
    """The samples of one metric, by run; ``peer`` stays empty where only anonfs has the metric."""

    metric: Metric
    anonfs: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """What anonfs has to what the peer has, run by run."""
        return [a / b for a, b in zip(self.anonfs, self.peer, strict=True)] if self.peer else []

    @property
    def on_target(self) -> bool | None:
        """Whether the median ratio meets the target; None where there is none."""
        target, ratios = self.metric.target, self.ratios
        if target is None or not ratios:
            return None
        middle = median(ratios)
        return middle <= target if self.metric.better is Better.LOWER else middle >= target


def measure(
    scenario: Scenario, anonfs: Place, peer: Place, runs: int, tell: Callable[[str], None]
) -> list[Readings]:
    """The readings of a scenario's metrics, in its order; ``tell`` hears how far it is."""
    found: dict[Metric, Readings] = {}
    for run in range(runs + 1):
        for place in (anonfs, peer) if run % 2 == 0 else (peer, anonfs):
            tell(f"{scenario.__name__}: run {run} of {runs} on {place.name}")
            for metric, value in scenario(place):
                readings = found.setdefault(metric, Readings(metric))
                if run:
                    (readings.anonfs if place is anonfs else readings.peer).append(value)
    return list(found.values())
