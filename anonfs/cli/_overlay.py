"""``anonfs overlay``, ``diff``, ``commit`` and ``discard``: files over files."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from anonfs.cli._output import FileArgument, JsonOption, console, print_json
from anonfs.cli._target import located, placed
from anonfs.client import changes
from anonfs.client import commit as committed
from anonfs.client import discard as discarded
from anonfs.client import overlay as overlaid

__all__ = ["commit", "diff", "discard", "overlay"]

_Front = Annotated[
    Path, typer.Argument(metavar="FILE", help="A file of another file system.", show_default=False)
]
_Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A path, or a name in the mount.", show_default=False),
]


def overlay(file: _Front, name: _Name) -> None:
    """Make NAME a file that shows FILE until it is changed; FILE stays as it is."""
    path: Path = placed(name)
    overlaid(file, path)


def diff(name: FileArgument, as_json: JsonOption = False) -> None:
    """List the pages of an overlay that were changed, one run a line: FIRST-LAST STATE."""
    found = changes(located(name))
    if as_json:
        print_json([asdict(run) for run in found])
        return
    for run in found:
        console().print(run.render())


def commit(name: FileArgument) -> None:
    """Write what was changed in an overlay to its file, all of it or nothing."""
    committed(located(name))


def discard(name: FileArgument) -> None:
    """Drop what was changed in an overlay."""
    discarded(located(name))
