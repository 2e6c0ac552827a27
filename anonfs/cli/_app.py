"""The commands put together, and what becomes of their errors.

Exit status: 0, or 2 for whatever the user can mend, 130 after Ctrl-C. A reader that goes away
(``anonfs ring FILE | head -1``) ends the command without a word.
"""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from anonfs import __version__
from anonfs.cli._clone import clone
from anonfs.cli._doctor import doctor
from anonfs.cli._errors import USER_ERROR, CommandError, described
from anonfs.cli._events import events
from anonfs.cli._ipcrm import ipcrm
from anonfs.cli._ipcs import ipcs
from anonfs.cli._mount import mount
from anonfs.cli._overlay import commit, diff, discard, overlay
from anonfs.cli._pages import pages
from anonfs.cli._ring import ring
from anonfs.cli._shm_exec import shm_exec
from anonfs.cli._stat import stat
from anonfs.cli._tour import tour
from anonfs.cli._umount import umount

__all__ = ["app", "main"]

INTERRUPTED = 130
BROKEN_PIPE = 1

# typer has its own copy of click in some releases and imports it in others; BadParameter is the
# name that it exports in all of them, and what its option parser raises is a relative of it.
_USAGE_ERRORS = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])

app = typer.Typer(
    name="anonfs",
    help="Shared memory that can be looked at, swapped and cleaned up.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

for _command in (
    *(mount, umount, stat, ring, pages, clone, overlay, diff, commit, discard),
    *(events, ipcs, ipcrm, tour, doctor),
):
    app.command()(_command)
app.command(context_settings={"allow_interspersed_args": False})(shm_exec)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"anonfs {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments``, by default the process's, and return its exit status."""
    try:
        status = app(args=arguments, prog_name="anonfs", standalone_mode=False)
        sys.stdout.flush()
    except _USAGE_ERRORS as error:
        return _complain(error.format_message())
    except CommandError as error:
        return _complain(str(error), error.status)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return BROKEN_PIPE
    except OSError as error:
        return _complain(described(error))
    return status if isinstance(status, int) else 0


def _complain(line: str, status: int = USER_ERROR) -> int:
    typer.echo(f"anonfs: {' '.join(line.split())}", err=True)
    return status
