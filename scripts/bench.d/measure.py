"""What is measured, and how often: metrics, scenarios, groups, readings.

A scenario is one function that does the same on any `Place` and yields a sample for each of its
metrics. Machines are shared and slow down and speed up, so a run takes both places one right after
the other, and what is compared is the ratio within a run, never a mean over runs::

    run 0   scenario on anonfs, scenario on its peer  ->  not counted: memory gets warm
    run 1   scenario on its peer, scenario on anonfs  ->  ratio 1      the order alternates
    run 2   scenario on anonfs, scenario on its peer  ->  ratio 2
    ...                                                   median, smallest, largest

The first run pays for memory that a virtual machine has not touched before.

It knows no file system: a group names its peer, and `places` and `peers` make them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import median

from places import Place

__all__ = ["Better", "Group", "Metric", "Peer", "Readings", "Sample", "Scenario", "Side", "measure"]


class Better(StrEnum):
    """Which way a metric improves."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True)
class Metric:
    """A named number.

    ``target`` is the worst ratio to the peer that is good enough, ``bound`` the worst value of
    anonfs itself. ``peer_does`` says what the peer does in its place, where that is not the same.
    """

    name: str
    unit: str
    better: Better = Better.LOWER
    target: float | None = None
    bound: float | None = None
    peer_does: str = ""


Sample = tuple[Metric, float]
Scenario = Callable[[Place], Iterator[Sample]]


@dataclass(frozen=True)
class Peer:
    """What anonfs is compared with; ``open`` makes a place of it below a workplace."""

    name: str
    open: Callable[[Path], AbstractContextManager[Place]]


@dataclass(frozen=True)
class Group:
    """Scenarios that share a mount with these options (sizes as the daemon takes them).

    ``quick`` replaces the scenarios by shorter ones, ``large`` adds longer ones. With ``anew``
    each run has a mount of its own, so that what one leaves behind is not measured in the next.
    ``note`` says what a reader of the figures must know.
    """

    about: str
    peer: Peer | None
    scenarios: Sequence[Scenario]
    quick: Sequence[Scenario] = ()
    large: Sequence[Scenario] = ()
    budget: str = "1G"
    swap_size: str = "1G"
    overcommit: bool = False
    anew: bool = False
    runs: int = 5
    note: str = ""


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
        """Whether the median ratio meets the target, and every run the bound; None without."""
        target, bound, ratios = self.metric.target, self.metric.bound, self.ratios
        verdicts = []
        if target is not None and ratios:
            verdicts.append(self._meets(median(ratios), target))
        if bound is not None:
            verdicts += [self._meets(value, bound) for value in self.anonfs]
        return all(verdicts) if verdicts else None

    def _meets(self, value: float, limit: float) -> bool:
        return value <= limit if self.metric.better is Better.LOWER else value >= limit


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: its name, and what opens its place for one scenario."""

    name: str
    open: Callable[[], AbstractContextManager[Place]]


def measure(
    scenario: Scenario, sides: Sequence[Side], runs: range, tell: Callable[[str], None]
) -> list[Readings]:
    """The readings of a scenario's metrics, in its order; ``tell`` hears how far it is.

    The first side is anonfs, the second, if any, its peer. Run 0 is not counted.
    """
    found: dict[Metric, Readings] = {}
    for run in runs:
        for side in sides if run % 2 == 0 else reversed(sides):
            tell(f"{scenario.__name__}: run {run} of {runs[-1]} on {side.name}")
            with side.open() as place:
                for metric, value in scenario(place):
                    readings = found.setdefault(metric, Readings(metric))
                    if run:
                        (readings.anonfs if side is sides[0] else readings.peer).append(value)
    return list(found.values())
