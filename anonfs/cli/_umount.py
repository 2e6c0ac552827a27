"""``anonfs umount``: the end of a mount, and with it of its daemon."""

import os
from pathlib import Path
from typing import Annotated

import typer

from anonfs.cli._errors import CommandError
from anonfs.cli._fusermount import BusyError, unmount
from anonfs.client import is_mountpoint

__all__ = ["umount"]


def umount(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="The mountpoint.", show_default=False)
    ],
) -> None:
    """Unmount the anonfs at DIR; its daemon then ends by itself."""
    if not is_mountpoint(directory):
        raise CommandError(f"{directory} is not an anonfs mount")
    point = Path(os.path.realpath(directory))
    try:
        unmount(point)
    except BusyError:
        unmount(point, lazy=True)
        typer.echo(
            f"{directory} is unmounted, but was in use: its users keep what they have open or"
            " mapped until they close it or exit, and the daemon ends after the last of them"
        )
