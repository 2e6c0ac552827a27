"""A picture of the readings: how each compares with its peer, and with what is asked of it.

One panel a group and kind of limit: ratios to the peer, or, where the limit is on anonfs itself,
shares of that limit. A dot is the median of the runs, its whiskers reach from the smallest to the
largest, and a mark shows the target; green meets it, red does not::

    sequential read  ├──●──┤            ▕          at least 5 times the peer's
    random read           ▕     ├─●─┤              at most the peer's
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anonfs.units import format_size
from measure import Readings

__all__ = ["Panel", "draw"]

_GREEN, _RED, _GREY = "#2a7f3f", "#c0392b", "#555555"
_RATIO_ROW, _BOUND_ROW, _MARGIN = 0.36, 0.24, 1.25  # inches
_MOST_TICKS = 10
_TICKS = [digit * 10.0**power for power in range(-3, 4) for digit in (1, 1.5, 2, 3, 5, 7)]


@dataclass(frozen=True)
class Panel:
    """The readings of a group, compared with a peer of that name, or with none."""

    title: str
    peer: str
    readings: Sequence[Readings]
    note: str = ""


@dataclass(frozen=True)
class _Row:
    """A metric as it is drawn: its values, each relative to the peer or to the bound."""

    label: str
    values: Sequence[float]
    mark: float | None
    met: bool | None
    text: str


@dataclass(frozen=True)
class _Chart:
    """Rows that share an axis of that quantity; ``row_height`` in inches."""

    title: str
    quantity: str
    rows: Sequence[_Row]
    row_height: float

    @property
    def height(self) -> float:
        """In inches."""
        return self.row_height * len(self.rows) + _MARGIN


def draw(panels: Sequence[Panel], machine: dict[str, Any], file: Path) -> None:
    """Write a PNG. No display is needed."""
    mpl.rcParams["font.size"] = 9
    charts = [chart for panel in panels for chart in _charts(panel)]
    heights = [chart.height for chart in charts]
    figure = Figure(figsize=(11, sum(heights) + 0.6), layout="constrained")
    figure.suptitle(
        f"anonfs beside its peers: Linux {machine['kernel']}, {machine['processor']},"
        f" {machine['cores']} cores, {format_size(machine['memory'])}",
        fontsize=11,
    )
    axes = figure.subplots(len(charts) or 1, 1, height_ratios=heights or None, squeeze=False)
    for axis, chart in zip(axes[:, 0], charts, strict=False):
        _draw_rows(axis, chart.rows)
        axis.set_title(chart.title, loc="left", fontweight="bold")
        axis.set_xlabel(chart.quantity, loc="left", multialignment="left")
    figure.savefig(file, dpi=130, format="png")


def _charts(panel: Panel) -> list[_Chart]:
    """What can be drawn of a group."""
    ratios = [_ratio_row(one) for one in panel.readings if one.ratios and one.metric.bound is None]
    bounds = [_bound_row(one) for one in panel.readings if one.metric.bound is not None]
    quantity = f"ratio to {panel.peer} (log scale; ▼ target; right: anonfs : peer)\n{panel.note}"
    share = "share of its bound (log scale; ▼ bound; lower is better)"
    found = [
        _Chart(panel.title, quantity.strip(), ratios, _RATIO_ROW),
        _Chart(f"{panel.title.split(':')[0]}: anonfs by itself", share, bounds, _BOUND_ROW),
    ]
    return [chart for chart in found if chart.rows]


def _ratio_row(readings: Readings) -> _Row:
    metric = readings.metric
    text = f"{_short(median(readings.anonfs))} : {_short(median(readings.peer))} {metric.unit}"
    label = f"{metric.name.strip()}\n{metric.better.value} is better"
    return _Row(label, readings.ratios, metric.target, readings.on_target, text)


def _bound_row(readings: Readings) -> _Row:
    metric = readings.metric
    bound = metric.bound or 1.0
    text = f"{_short(median(readings.anonfs))} of {bound:g} {metric.unit}"
    values = [value / bound for value in readings.anonfs]
    return _Row(metric.name.strip(), values, 1.0, readings.on_target, text)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _draw_rows(axis: Axes, rows: Sequence[_Row]) -> None:
    axis.set_xscale("log")
    for height, row in enumerate(rows):
        middle, colour = median(row.values), {True: _GREEN, False: _RED, None: _GREY}[row.met]
        spread = [[middle - min(row.values)], [max(row.values) - middle]]
        axis.errorbar(middle, height, xerr=spread, fmt="o", color=colour, capsize=3)
        if row.mark is not None:
            axis.plot(row.mark, height - 0.3, "v", color="black", markersize=4)
        axis.annotate(
            row.text, (1.01, height), xycoords=("axes fraction", "data"), va="center", color=colour
        )
    axis.axvline(1, color="#bbbbbb", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    _scale(axis, [value for row in rows for value in (*row.values, row.mark or 1.0)])
    axis.grid(axis="x", color="#eeeeee", zorder=0)
    axis.spines[["top", "right"]].set_visible(False)


def _scale(axis: Axes, values: Sequence[float]) -> None:
    """Limits that show all values, and ticks that are plain numbers."""
    low, high = min(values) / 1.3, max(values) * 1.3
    axis.set_xlim(low, high)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    if len(ticks) > _MOST_TICKS:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
