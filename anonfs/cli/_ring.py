"""``anonfs ring``: the vm areas of an inode, process by process."""

from dataclasses import asdict
from typing import Annotated

import typer

from anonfs.cli._areas import command_of, described
from anonfs.cli._errors import CommandError
from anonfs.cli._output import FileArgument, JsonOption, console, print_columns, print_json
from anonfs.cli._ring_tree import follow as follow_ring
from anonfs.cli._target import Looked, look
from anonfs.inspection import Area

__all__ = ["ring"]

_TITLES = ("PID", "COMMAND", "ADDRESSES", "SIZE", "FILE PAGES", "PERMS", "KNOWN")


_FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Show a tree of processes as it changes.")
]


def ring(file: FileArgument, follow: _FollowOption = False, as_json: JsonOption = False) -> None:
    """Show the share ring of FILE: which process maps what of it, and where."""
    if follow and as_json:
        raise CommandError("--follow has no JSON: see anonfs events --follow --json")
    if follow:
        follow_ring(file)
        return
    looked = look(file)
    if as_json:
        print_json(_document(looked))
        return
    areas = looked.inspection.areas
    processes = len({area.pid for area in areas})
    console().print(f"{looked.path}: vm areas {len(areas)}, processes {processes}")
    if areas:
        print_columns([_row(area) for area in areas], _TITLES, right=(0, 3))
    if not looked.inspection.areas_complete:
        console().print("(there are more areas than an attribute holds)")


def _row(area: Area) -> tuple[str, ...]:
    pid = "?" if area.pid is None else str(area.pid)
    return (pid, command_of(area.pid) or "?", *described(area))


def _document(looked: Looked) -> dict[str, object]:
    return {
        "path": str(looked.path),
        "complete": looked.inspection.areas_complete,
        "areas": [
            asdict(area) | {"command": command_of(area.pid)} for area in looked.inspection.areas
        ],
    }
