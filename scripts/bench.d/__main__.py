"""``scripts/bench [NAME...]``: what anonfs costs, beside its peers.

A group of measurements is a module with a ``GROUP``; add it to `_GROUPS`.
"""

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

import basic
import cost
import pager
import private
import ring
import shm
import swap
from measure import Group, Readings, Side, measure
from places import BenchError, Place, anonfs_mount
from plot import Panel, draw
from report import as_document, machine, print_machine, print_table

__all__ = ["main"]

_GROUPS: dict[str, Group] = {
    "basic": basic.GROUP,
    "swap": swap.GROUP,
    "pager": pager.GROUP,
    "cost": cost.GROUP,
    "ring": ring.GROUP,
    "shm": shm.GROUP,
    "private": private.GROUP,
}
_PIPE_WIDTH = 200  # wide enough for a table: a pipe has no width of its own


def main() -> int:
    """Measure, print, write; returns the exit status."""
    given = _parsed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    workplace = given.workplace or Path(tempfile.mkdtemp(prefix="anonfs-bench."))
    try:
        _bench(given, workplace)
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        _remove(workplace)
    return 0


def _parsed() -> argparse.Namespace:
    lines = [f"  {name:10}{group.about}" for name, group in _GROUPS.items()]
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measure anonfs beside its peers.",
        epilog="\n".join(["groups, basic by default:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a group of measurements, or all",
        default=["basic"],
    )
    parser.add_argument("--runs", type=int, help="how often (default: as the group has it)")
    parser.add_argument("--quick", action="store_true", help="once, with smaller sizes")
    parser.add_argument("--large", action="store_true", help="with larger sizes, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all readings there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios there, as a PNG")
    parser.add_argument("--workplace", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.names == ["all"]:
        given.names = list(_GROUPS)
    for name in given.names:
        if name not in _GROUPS:
            parser.error(f"there is no group {name!r}")
    if given.runs is not None and given.runs < 1:
        parser.error("--runs must be 1 or more")
    return given


def _end(number: int, _frame: FrameType | None) -> None:
    """End in order: what is mounted is unmounted on the way out."""
    raise SystemExit(128 + number)


def _bench(given: argparse.Namespace, workplace: Path) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    found = machine()
    print_machine(console, found)
    document: dict[str, Any] = {"machine": found, "groups": {}}
    panels = []
    for name in given.names:
        group = _GROUPS[name]
        peer = group.peer.name if group.peer else ""
        readings = _measured(console, group, given, workplace)
        title = f"{name}: {group.about}"
        print_table(console, f"\n{title}; {_counted(readings)}", peer, readings)
        if group.note:
            console.print(group.note, style="dim")
        panels.append(Panel(title, peer, readings, group.note))
        metrics = [as_document(one) for one in readings]
        document["groups"][name] = {"peer": peer, "note": group.note, "metrics": metrics}
    if given.json is not None:
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if given.plot is not None:
        draw(panels, found, given.plot)


def _counted(readings: list[Readings]) -> str:
    runs = max((len(one.anonfs) for one in readings), default=0)
    return f"medians of {runs} runs" if runs > 1 else "a single run"


def _measured(
    console: Console, group: Group, given: argparse.Namespace, workplace: Path
) -> list[Readings]:
    """The readings of a group."""
    scenarios = [*group.scenarios, *(group.large if given.large else ())]
    if given.quick:
        scenarios = list(group.quick or group.scenarios)
    runs = given.runs or (1 if given.quick else group.runs)
    # Memory need not get warm where each run has a mount of its own, or nobody looks closely.
    warm_up = not (given.quick or group.anew)
    readings: list[Readings] = []
    with console.status("mounting") as status, _sides(group, workplace) as sides:
        for scenario in scenarios:
            counted = range(0 if warm_up else 1, runs + 1)
            readings += measure(scenario, sides, counted, status.update)
    return readings


@contextlib.contextmanager
def _sides(group: Group, workplace: Path) -> Iterator[list[Side]]:
    """What a group compares, mounted until the end of the block, or anew for each scenario."""

    def mounted() -> contextlib.AbstractContextManager[Place]:
        return anonfs_mount(workplace, group.budget, group.swap_size, overcommit=group.overcommit)

    with contextlib.ExitStack() as stack:
        sides = []
        if group.anew:
            sides.append(Side("anonfs", mounted))
        else:
            place = stack.enter_context(mounted())
            sides.append(Side("anonfs", lambda: contextlib.nullcontext(place)))
        if group.peer is not None:
            beside = stack.enter_context(group.peer.open(workplace))
            sides.append(Side(group.peer.name, lambda: contextlib.nullcontext(beside)))
        yield sides


def _remove(workplace: Path) -> None:
    """Remove what is left of it, unless something is still mounted there."""
    if not any(path.is_mount() for path in workplace.iterdir()):
        shutil.rmtree(workplace, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
