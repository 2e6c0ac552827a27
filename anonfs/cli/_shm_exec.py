"""``anonfs shm-exec``: a program with an anonfs of its own on /dev/shm.

This process becomes the program, so exit status, signals, terminal and process group are the
program's own and nothing has to be passed on. Before that it enters a mount namespace and has the
daemon started in it, by a child that ends at once: the program is no parent of anybody::

    shm-exec ── unshare ── tmpfs, empty ── anonfs on it ── exec PROGRAM
       └─ fork ─ start ─ wait for "ready" ─ exit     │
                   └─ anonfsd --ends-with PIDFD ─────┴──── until the process of PIDFD has ended
                                                           and nobody holds a segment

Whoever is killed, and whenever, all goes: the kernel tells the daemon of the end of this process,
by whatever name it runs then, and the namespace goes with the last process in it. Processes of the
program that outlive the daemon find the empty directory, and never the machine's own segments.
"""

import contextlib
import errno
import os
import shutil
import signal
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from anonfs.cli._errors import NOT_EXECUTABLE, NOT_FOUND, CommandError, described
from anonfs.cli._mount import (
    BUDGET,
    SWAP_SIZE,
    BudgetOption,
    LogOption,
    OvercommitOption,
    Plan,
    SwapOption,
    SwapSizeOption,
    start,
)
from anonfs.cli._namespace import enter_mount_namespace, keep_right_to_mount, mount_empty
from anonfs.client import MOUNT_VARIABLE

__all__ = ["shm_exec"]

_DIRECTORY = Path("/dev/shm")  # noqa: S108  where glibc looks
_LINE_MAX = 4096


def shm_exec(
    program: Annotated[
        list[str],
        typer.Argument(
            metavar="PROGRAM [ARGS]...", help="What to run; put -- before it.", show_default=False
        ),
    ],
    budget: BudgetOption = BUDGET,
    swap: SwapOption = None,
    swap_size: SwapSizeOption = SWAP_SIZE,
    overcommit: OvercommitOption = False,
    log: LogOption = None,
) -> None:
    """Run PROGRAM with an anonfs of its own on /dev/shm, gone with it."""
    swap = None if swap is None else swap.absolute()
    directory = Path(os.path.realpath(_DIRECTORY))
    plan = Plan(directory, budget, swap, swap_size, keep_swap=False, overcommit=overcommit)
    plan.check()
    path = _find(program[0])
    enter_mount_namespace()
    mount_empty(directory)
    _mount_until_our_end(plan, log)
    _become(path, program)


def _find(program: str) -> str:
    """The path of ``program``, found as a shell does. Raises CommandError."""
    found = shutil.which(program)
    if found is not None:
        return found
    if shutil.which(program, os.F_OK) is None and not ("/" in program and Path(program).exists()):
        raise CommandError(f"{program}: {os.strerror(errno.ENOENT)}", NOT_FOUND)
    raise CommandError(f"{program}: {os.strerror(errno.EACCES)}", NOT_EXECUTABLE)


def _mount_until_our_end(plan: Plan, log: Path | None) -> None:
    """Start the daemon, as a child of nobody here. Raises CommandError: it did not mount."""
    ourselves = os.pidfd_open(os.getpid())
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _start_and_exit(plan, log, ourselves, writer)
    os.close(writer)
    os.close(ourselves)
    with open(reader, "rb") as answer:  # noqa: PTH123  a descriptor
        line = answer.read(_LINE_MAX)
    _, status = os.waitpid(child, 0)
    if line or status:
        raise CommandError(line.decode() or "the daemon was not started")


def _start_and_exit(plan: Plan, log: Path | None, pidfd: int, writer: int) -> NoReturn:
    """Start the daemon, and say on ``writer`` why not; for the child, which has to end here."""
    status = 1
    with contextlib.suppress(KeyboardInterrupt):
        try:
            keep_right_to_mount()
            start([*plan.command(), "--ends-with", str(pidfd)], log, pidfd)
            status = 0
        except CommandError as error:
            os.write(writer, str(error).encode())
        except OSError as error:
            os.write(writer, described(error).encode())
    os._exit(status)


def _become(path: str, program: list[str]) -> NoReturn:
    """Run the program in the place of this process. Raises CommandError."""
    # What Python set for itself.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(path, program, os.environ | {MOUNT_VARIABLE: str(_DIRECTORY)})  # noqa: S606
    except OSError as error:
        missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
        status = NOT_FOUND if missing else NOT_EXECUTABLE
        raise CommandError(f"{program[0]}: {error.strerror}", status) from None
