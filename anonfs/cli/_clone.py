"""``anonfs clone``: a copy-on-write copy of a file."""

from pathlib import Path
from typing import Annotated

import typer

from anonfs.cli._target import located, placed
from anonfs.client import clone as cloned

__all__ = ["clone"]

_Source = Annotated[
    str, typer.Argument(metavar="SRC", help="A path, or a name in the mount.", show_default=False)
]
_Destination = Annotated[
    str, typer.Argument(metavar="DST", help="The same, of a new file.", show_default=False)
]
_Lazy = Annotated[bool, typer.Option("--lazy", help="Share even the records of where pages are.")]


def clone(source: _Source, destination: _Destination, lazy: _Lazy = False) -> None:
    """Make DST with what SRC has now; pages are copied when one of them writes."""
    path: Path = placed(destination)
    cloned(located(source), path, lazy=lazy)
