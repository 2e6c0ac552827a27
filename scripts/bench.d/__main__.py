"""``scripts/bench [NAME...]``: what anonfs costs, beside a tmpfs.

A group of measurements is a module with a ``GROUP``; add it to `_GROUPS`.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

import basic
from measure import Group, Readings, measure
from places import BenchError, anonfs_mount, tmpfs_peer
from report import as_document, machine, print_machine, print_table

__all__ = ["main"]

_GROUPS: dict[str, Group] = {
    "basic": basic.GROUP,
}
_PIPE_WIDTH = 200  # wide enough for a table: a pipe has no width of its own


def main() -> int:
    """Measure, print, write; returns the exit status."""
    given = _parsed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    workplace = given.workplace or Path(tempfile.mkdtemp(prefix="anonfs-bench."))
    try:
        _bench(given.names or list(_GROUPS), given.runs, given.json, workplace)
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
        description="Measure anonfs beside a tmpfs.",
        epilog="\n".join(["groups, all of them by default:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a group of measurements")
    parser.add_argument("--runs", type=int, default=5, help="how often (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all readings there")
    parser.add_argument("--workplace", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    for name in given.names:
        if name not in _GROUPS:
            parser.error(f"there is no group {name!r}")
    if given.runs < 1:
        parser.error("--runs must be 1 or more")
    return given


def _end(number: int, _frame: FrameType | None) -> None:
    """End in order: what is mounted is unmounted on the way out."""
    raise SystemExit(128 + number)


def _bench(names: list[str], runs: int, json_file: Path | None, workplace: Path) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    found = machine()
    print_machine(console, found, runs)
    document: dict[str, Any] = {"machine": found, "runs": runs, "groups": {}}
    for name in names:
        readings = _measured(console, _GROUPS[name], runs, workplace)
        print_table(console, f"\n{name}: {_GROUPS[name].about}", readings)
        document["groups"][name] = [as_document(one) for one in readings]
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _measured(console: Console, group: Group, runs: int, workplace: Path) -> list[Readings]:
    """The readings of a group, on a mount of its own."""
    readings: list[Readings] = []
    with (
        console.status("mounting") as status,
        anonfs_mount(workplace, group.budget, group.swap_size) as anonfs,
        tmpfs_peer(workplace) as peer,
    ):
        for scenario in group.scenarios:
            readings += measure(scenario, anonfs, peer, runs, status.update)
    return readings


def _remove(workplace: Path) -> None:
    """Remove what is left of it, unless something is still mounted there."""
    if not any(path.is_mount() for path in workplace.iterdir()):
        shutil.rmtree(workplace, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
