"""``anonfs doctor``: what this machine offers, as the daemon's package finds it.

The probes are the daemon's and run in a process of their own: they try system calls that the
command line has no business with.
"""

import importlib.util
import json
import subprocess
import sys
from typing import Any

import typer
from rich.text import Text

from anonfs.cli._errors import CommandError
from anonfs.cli._output import JsonOption, console, print_columns, print_json

__all__ = ["doctor"]

PROBES_TIMEOUT = 60.0
"""How long all probes together may take, in seconds; each is bounded by itself."""

NO_MOUNT = 2


def doctor(as_json: JsonOption = False) -> None:
    """Check what this machine offers, and say what to do about what is missing."""
    report = _report()
    if as_json:
        print_json(report)
    else:
        _show(report)
    if not report["can_mount"]:
        raise typer.Exit(NO_MOUNT)


def _report() -> dict[str, Any]:
    if importlib.util.find_spec("anonfsd") is None:
        raise CommandError("install the daemon: pip install 'anonfs[daemon]'")
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "anonfsd.doctor"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PROBES_TIMEOUT,
        )
        report: dict[str, Any] = json.loads(ran.stdout)
    except subprocess.TimeoutExpired:
        raise CommandError(f"the probes did not end within {PROBES_TIMEOUT:.0f} s") from None
    except ValueError:
        last = (ran.stderr.strip() or "nothing").splitlines()[-1]
        raise CommandError(f"the probes failed: {last}") from None
    return report


def _show(report: dict[str, Any]) -> None:
    probes = report["probes"]
    print_columns([_row(probe) for probe in probes], ("", "PROBE", "FOUND", "FOR"))
    out = console()
    out.print()
    for probe in probes:
        if not probe["ok"] and probe["advice"]:
            gives = f" (gives tier {probe['tier']})" if probe["tier"] else ""
            out.print(f"{probe['name']}: {probe['advice']}{gives}", soft_wrap=True)
    out.print(f"tier {report['tier']}: {report['meaning']}", soft_wrap=True, style="bold")


def _row(probe: dict[str, Any]) -> tuple[str | Text, ...]:
    if probe["ok"]:
        mark = Text("ok", "green")
    else:
        mark = Text("no", "red" if probe["tier"] == "basic" else "yellow")
    return mark, probe["name"], probe["detail"], probe["tier"] or "-"
