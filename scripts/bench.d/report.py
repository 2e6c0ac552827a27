"""What comes out: a table for people, JSON for programs, the machine for both."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anonfs.units import format_size
from measure import Better, Readings

__all__ = ["as_document", "machine", "print_machine", "print_table"]

_TITLES = ("measurement", "unit", "better", "anonfs", "tmpfs", "ratio", "min-max", "note")
_RIGHT = {"anonfs", "tmpfs", "ratio", "min-max"}


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


def print_machine(console: Console, found: dict[str, Any], runs: int) -> None:
    """One line."""
    load = " ".join(f"{value:.2f}" for value in found["load"])
    console.print(
        f"Linux {found['kernel']} {found['architecture']}, {found['processor']},"
        f" {found['cores']} cores, {format_size(found['memory'])}, load {load};"
        f" medians of {runs} runs",
        style="dim",
    )


def print_table(console: Console, title: str, readings: Sequence[Readings]) -> None:
    """A line a metric."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in _TITLES:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True)
    for one in readings:
        table.add_row(*_row(one))
    console.print(table)


def _row(readings: Readings) -> list[str | Text]:
    metric, ratios = readings.metric, readings.ratios
    common: list[str | Text] = [metric.name, metric.unit, metric.better.value]
    if not ratios:
        return [*common, _number(median(readings.anonfs)), "", "", "", ""]
    style = {True: "green", False: "red", None: ""}[readings.on_target]
    return [
        *common,
        _number(median(readings.anonfs)),
        _number(median(readings.peer)),
        Text(f"{median(ratios):.2f}", style),
        f"{min(ratios):.2f}-{max(ratios):.2f}",
        _note(readings),
    ]


def _note(readings: Readings) -> str:
    metric, notes = readings.metric, []
    if metric.target is not None:
        bound = "at most" if metric.better is Better.LOWER else "at least"
        notes.append(f"target {bound} {metric.target:g}")
    if metric.peer:
        notes.append(f"tmpfs: {metric.peer}")
    return "; ".join(notes)


def _number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def as_document(readings: Readings) -> dict[str, Any]:
    """All that was read of one metric."""
    metric, ratios = readings.metric, readings.ratios
    return {
        "name": metric.name,
        "unit": metric.unit,
        "better": metric.better,
        "target": metric.target,
        "on_target": readings.on_target,
        "peer_does": metric.peer or "the same",
        "anonfs": readings.anonfs,
        "tmpfs": readings.peer,
        "ratios": ratios,
        "ratio": median(ratios) if ratios else None,
    }
