"""What comes out: a table for people, JSON for programs, the machine for both."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

import psutil
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from anonfs.units import format_size
from measure import Better, Metric, Readings

__all__ = ["as_document", "machine", "print_machine", "print_table"]


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    return {
        "kernel": os.uname().release,
        "architecture": os.uname().machine,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "load": os.getloadavg(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def print_machine(console: Console, found: dict[str, Any]) -> None:
    """One line."""
    load = " ".join(f"{value:.2f}" for value in found["load"])
    console.print(
        f"Linux {found['kernel']} {found['architecture']}, {found['processor']},"
        f" {found['cores']} cores, {format_size(found['memory'])}, load {load}",
        style="dim",
    )


def print_table(console: Console, title: str, peer: str, readings: Sequence[Readings]) -> None:
    """A line a metric; ``peer`` is the name of what anonfs is compared with, or empty."""
    compared = (peer, "ratio", "min-max") if peer else ()
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("measurement", "unit", "better", "anonfs", *compared, "note"):
        side = "right" if name in {"anonfs", *compared} else "left"
        table.add_column(name, justify=cast(JustifyMethod, side), no_wrap=True)
    for one in readings:
        metric = one.metric
        cells = [metric.name, metric.unit, metric.better.value, *_values(one, bool(peer))]
        table.add_row(*cells, _note(metric))
    console.print(table)


def _values(readings: Readings, compared: bool) -> list[str | Text]:
    """What anonfs has, and where there is a peer what that has and the ratio."""
    metric, ratios = readings.metric, readings.ratios
    style = {True: "green", False: "red", None: ""}[readings.on_target]
    own = _number(median(readings.anonfs))
    if not ratios:
        return [Text(own, style), *(["", "", ""] if compared else [])]
    ratio = Text(f"{median(ratios):.2f}", style if metric.target is not None else "")
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    mine = Text(own, style if metric.bound is not None else "")
    return [mine, _number(median(readings.peer)), ratio, spread]


def _note(metric: Metric) -> str:
    notes, limit = [], "at most" if metric.better is Better.LOWER else "at least"
    if metric.target is not None:
        notes.append(f"target {limit} {metric.target:g}")
    if metric.bound is not None:
        notes.append(f"anonfs {limit} {metric.bound:g}")
    if metric.peer_does:
        notes.append(f"peer: {metric.peer_does}")
    return "; ".join(notes)


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def as_document(readings: Readings) -> dict[str, Any]:
    """All that was read of one metric."""
    metric, ratios = readings.metric, readings.ratios
    return {
        "name": metric.name.strip(),
        "unit": metric.unit,
        "better": metric.better,
        "target": metric.target,
        "bound": metric.bound,
        "on_target": readings.on_target,
        "peer_does": metric.peer_does or "the same",
        "anonfs": readings.anonfs,
        "peer": readings.peer,
        "ratios": ratios,
        "ratio": median(ratios) if ratios else None,
    }
