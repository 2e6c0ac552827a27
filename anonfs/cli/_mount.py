"""``anonfs mount``: start the daemon and wait for its word that the mount is there.

The daemon is a program of its own that stays in the foreground. Here it gets a session, a log
and the write end of a pipe; it answers with one line, ``ready`` or ``error: WHY``. Whether a
value makes sense is for the daemon to say; only a size that cannot be one is refused before.
"""

import contextlib
import importlib.util
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from anonfs.cli._errors import CommandError
from anonfs.cli._limits import (
    LimitOptions,
    MaxFilesPerUserOption,
    MaxLockedPerUserOption,
    MaxPerUserOption,
    MaxSegmentOption,
    SizeOption,
)
from anonfs.units import parse_size

__all__ = [
    "BUDGET",
    "SWAP_SIZE",
    "BudgetOption",
    "LogOption",
    "OvercommitOption",
    "Plan",
    "SwapOption",
    "SwapSizeOption",
    "mount",
    "start",
]

READY_TIMEOUT = 60.0
"""How long the daemon may take to mount, in seconds: it allocates its whole swap file first."""

_LINE_MAX = 4096


BUDGET, SWAP_SIZE = "256M", "1G"

BudgetOption = Annotated[str, typer.Option(metavar="SIZE", help="The memory for pages in core.")]
SwapOption = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Where the swap file is made.", dir_okay=True)
]
SwapSizeOption = Annotated[str, typer.Option(metavar="SIZE", help="Its size.")]
OvercommitOption = Annotated[
    bool, typer.Option("--overcommit", help="Let sizes exceed budget and swap.")
]
LogOption = Annotated[
    Path | None, typer.Option(metavar="PATH", help="Where the daemon writes its log.")
]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be mounted, in the daemon's words."""

    directory: Path
    budget: str
    swap: Path | None
    swap_size: str
    keep_swap: bool
    overcommit: bool
    over: bool = False
    limits: LimitOptions = field(default_factory=LimitOptions)

    def check(self) -> None:
        """Raises CommandError: there is no daemon to start, or a size is none."""
        _require_daemon()
        for size in (self.budget, self.swap_size, *self.limits.sizes):
            _require_size(size)

    def command(self) -> list[str]:
        """The daemon's command line; paths are absolute, since it runs in ``/``."""
        command = [sys.executable, "-m", "anonfsd", str(self.directory)]
        command += ["--budget", self.budget]
        if self.swap is not None:
            command += ["--swap", str(self.swap)]
        command += ["--swap-size", self.swap_size]
        command += ["--keep-swap"] if self.keep_swap else []
        command += ["--overcommit"] if self.overcommit else []
        command += ["--over"] if self.over else []
        return [*command, *self.limits.words()]


def mount(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Where to mount.", show_default=False)
    ],
    budget: BudgetOption = BUDGET,
    swap: SwapOption = None,
    swap_size: SwapSizeOption = SWAP_SIZE,
    keep_swap: Annotated[
        bool, typer.Option("--keep-swap", help="Leave it there afterwards.")
    ] = False,
    overcommit: OvercommitOption = False,
    over: Annotated[
        bool, typer.Option("--over", help="Mount though DIR is not empty, and hide what is in it.")
    ] = False,
    size: SizeOption = None,
    max_segment: MaxSegmentOption = None,
    max_per_user: MaxPerUserOption = None,
    max_files_per_user: MaxFilesPerUserOption = None,
    max_locked_per_user: MaxLockedPerUserOption = None,
    log: LogOption = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Become the daemon, log to stderr.")
    ] = False,
) -> None:
    """Mount an anonfs at DIR and leave its daemon running in the background."""
    if foreground and log is not None:
        raise CommandError("--log is for a mount in the background")
    swap = None if swap is None else swap.absolute()
    limits = LimitOptions(size, max_segment, max_per_user, max_files_per_user, max_locked_per_user)
    plan = Plan(
        Path(directory).absolute(), budget, swap, swap_size, keep_swap, overcommit, over, limits
    )
    plan.check()
    if foreground:
        os.execv(sys.executable, plan.command())  # noqa: S606 - a list, no shell
    start(plan.command(), log)
    typer.echo(f"mounted at {directory}")


def default_log() -> Path:
    """Where the daemon's log goes when nobody says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/log/anonfs.log")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "anonfs/anonfs.log"


def _require_daemon() -> None:
    for module in ("anonfsd", "psutil", "pyfuse3", "trio"):
        if importlib.util.find_spec(module) is None:
            raise CommandError("install the daemon: pip install 'anonfs[daemon]'")


def _require_size(text: str) -> None:
    try:
        parse_size(text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def start(command: list[str], log: Path | None, *descriptors: int) -> None:
    """Run ``command`` in the background, with ``descriptors``, and wait for its line.

    Raises:
        CommandError: it did not mount.
    """
    log = (log or default_log()).absolute()
    log.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as answer:  # noqa: PTH123 - a descriptor
        try:
            with log.open("ab") as errors:
                process = subprocess.Popen(
                    [*command, "--ready-fd", str(writer)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd="/",
                    pass_fds=[writer, *descriptors],
                    start_new_session=True,
                )
        finally:
            os.close(writer)
        try:
            line = _first_line(answer.fileno(), READY_TIMEOUT)
        except BaseException:
            process.terminate()
            raise
    if line == "ready":
        process.returncode = 0  # it lives on: nothing here waits for it
        return
    _give_up(process, line, log)


def _give_up(process: subprocess.Popen[bytes], line: str | None, log: Path) -> None:
    """Say why there is no mount, once the daemon has ended."""
    if line is None:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    if line is None:
        raise CommandError(f"the daemon did not mount within {READY_TIMEOUT:.0f} s, see {log}")
    if not line:
        raise CommandError(f"the daemon ended at once, see {log}: {_last_line(log)}")
    raise CommandError(line.removeprefix("error:").strip())


def _last_line(log: Path) -> str:
    """The last line of ``log``."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LINE_MAX))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it is empty"


def _first_line(descriptor: int, timeout: float) -> str | None:
    """The line that comes through ``descriptor``: empty at its end, None after ``timeout``."""
    deadline = time.monotonic() + timeout
    told = b""
    while b"\n" not in told and len(told) < _LINE_MAX:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        more = os.read(descriptor, _LINE_MAX)
        if not more:
            break
        told += more
    return told.decode("utf-8", "replace").partition("\n")[0].strip()
