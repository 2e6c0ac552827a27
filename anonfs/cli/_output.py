"""What commands print with: a console, columns, JSON.

Nothing is wrapped or cut when the output goes to a file or a pipe, and colour is only for
terminals (and never where NO_COLOR is set; that is rich's doing).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["FileArgument", "JsonOption", "console", "print_columns", "print_json"]

_UNBOUNDED = 4096

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A path, or a name in the mount.", show_default=False)
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def console() -> Console:
    """A console for standard output that never breaks the lines of a pipe."""
    width = None if sys.stdout.isatty() else _UNBOUNDED
    return Console(highlight=False, markup=False, width=width)


def print_json(document: Any) -> None:
    """Print ``document`` as JSON, indented."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_columns(
    rows: Iterable[Sequence[str | Text]], titles: Sequence[str] = (), right: Sequence[int] = ()
) -> None:
    """Print ``rows`` in columns as wide as they need; those numbered ``right`` align there."""
    listed = list(rows)
    count = len(titles) or max((len(row) for row in listed), default=0)
    table = Table(box=None, pad_edge=False, show_header=bool(titles), header_style="bold")
    for index in range(count):
        title = titles[index] if titles else ""
        table.add_column(title, justify="right" if index in right else "left", overflow="fold")
    for row in listed:
        table.add_row(*row)
    console().print(table)
