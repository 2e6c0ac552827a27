"""``anonfs umount``: the end of a mount, and with it of its daemon."""

from typing import Annotated

import typer

from anonfs.cli._errors import CommandError
from anonfs.cli._fusermount import BusyError, unmount
from anonfs.client import anonfs_at

__all__ = ["umount"]


def umount(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="The mountpoint.", show_default=False)
    ],
) -> None:
    """Unmount the anonfs at DIR; its daemon then ends by itself."""
    point = anonfs_at(directory)
    if point is None:
        raise CommandError(f"{directory} is not an anonfs mount")
    try:
        unmount(point)
    except BusyError:
        unmount(point, lazy=True)
        typer.echo(
            f"{directory} is unmounted, but was in use: its users keep what they have open or"
            " mapped until they close it or exit, and the daemon ends after the last of them"
        )
