"""Many at once: every process verifies what is its own while the others work.

    shared-0                blocks of pages, block b belongs to process b mod N
    shared-1                the same, but so few that each is written while it is swapped out
    own-0, own-1, ...       a directory for each process, judged as in a run of one process
    ~0, ~1, ...             files that come and go beside the crowd's directory
    swapper                 one more process, which swaps all of it out, all the time

What runs when is the kernel's choice, so a seed does not replay here; the report says what was
read wrong and what its own process did to that file.
"""

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tests.judge._actor import Actor
from tests.judge._crew import Local, Rescue, leave_alone
from tests.judge._crowd_files import SHARED_PAGES, PassingFile, Role, SharedFile
from tests.judge._dice import Dice
from tests.judge._libc import die_with_parent
from tests.judge._stage import Limits
from tests.judge.judge import Judge
from tests.judge.report import FaultFoundError
from tests.support.programs import environment, python

__all__ = ["crowd_directory"]

_GRACE_SECONDS = 30.0
_END_SECONDS = 3.0
_CLEAN_UP = """
import glob, os, shutil, sys
shutil.rmtree(sys.argv[1], True)
for path in glob.glob(sys.argv[1] + "~*"):
    os.unlink(path)
"""
_FAULT_STATUS = 3
_OWN_LIMITS = Limits(live=4 << 20, file=2 << 20, inodes=6, names=4, handles=10, maps=10)


def _work(role: Role) -> int:
    """A worker: its own directory, and its blocks of the shared files, in turn."""
    own = Local(Actor(f"{role.directory}/own-{role.number}"))
    own.call("make_directory")
    dice = Dice(f"{role.seed}-{role.number}")
    judge = Judge([own], dice.between(0, 1 << 31), _OWN_LIMITS, must_swap_out=role.must_swap_out)
    shared = [SharedFile(role, f"{role.directory}/{name}", dice) for name in SHARED_PAGES]
    passing = PassingFile(role, dice)
    deadline, done = time.monotonic() + role.seconds, 0
    while time.monotonic() < deadline:
        judge.do_one()
        passing.do_one()
        for file in shared:
            file.do_one()
        done += 2 + len(shared)
    for file in shared:
        file.verify()
    judge.run(0)
    return done


def _swap(role: Role) -> int:
    """The swapper: everything out, again and again."""
    dice, done = Dice(f"{role.seed}-swapper"), 0
    deadline = time.monotonic() + role.seconds
    while time.monotonic() < deadline:
        place = Path(role.directory)
        for path in place.glob("own-*/*"):
            shared = [place / name for name in SHARED_PAGES]
            for each in (path, *shared, *place.parent.glob(f"{place.name}~*")):
                _swap_file(each, dice)
                done += 1
    return done


def _swap_file(path: Path, dice: Dice) -> None:
    """Swap a file out, or part of a shared one; it may be gone by now."""
    pages = "all"
    if path.name in SHARED_PAGES and dice.chance(0.7):
        last = SHARED_PAGES[path.name] - 1
        first = dice.between(0, last)
        pages = f"{first}-{dice.between(first, last)}"
    actor = Actor(str(path.parent))
    with contextlib.suppress(FileNotFoundError):
        actor.swap_out_named(path.name, pages)


def crowd_directory(
    directory: str,
    seed: int,
    seconds: float,
    workers: int = 3,
    *,
    must_swap_out: bool = False,
    rescue: Rescue = leave_alone,
) -> int:
    """Have a crowd work in ``directory`` for a time; the operations done.

    ``rescue`` is called when a process does not end: it may free those that wait for ever.

    Raises:
        FaultFoundError: a process read something wrong, died or did not end.
    """
    place = f"{directory}/crowd-{seed}-{secrets.token_hex(3)}"
    roles = [
        Role(place, seed, seconds, number, workers, must_swap_out, os.getpid())
        for number in range(workers + 1)
    ]
    processes: list[subprocess.Popen[str]] = []
    try:
        _run_bounded("import os, sys; os.mkdir(sys.argv[1])", place)
        processes += [_start(role) for role in roles]
        return _outcomes(processes, time.monotonic() + seconds + _GRACE_SECONDS)
    finally:
        for process in processes:
            process.kill()
        if not all([_has_ended(process) for process in processes]):  # noqa: C419  waits for each
            rescue()
        else:
            _run_bounded(_CLEAN_UP, place)
        for process in processes:
            _has_ended(process)


def _has_ended(process: subprocess.Popen[str]) -> bool:
    """Whether a process that was killed ends soon."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_END_SECONDS)
    return process.returncode is not None


def _run_bounded(code: str, argument: str) -> None:
    """Run some Python on a file system that may hang."""
    process = subprocess.Popen(python("-c", code, argument))
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _start(role: Role) -> subprocess.Popen[str]:
    return subprocess.Popen(
        python("-m", "tests.judge.crowd", json.dumps(asdict(role))),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


def _outcomes(processes: list[subprocess.Popen[str]], deadline: float) -> int:
    """The operations done by all, when the last has ended; the first failure ends the wait."""
    waiting = {os.pidfd_open(process.pid): process for process in processes}
    done = 0
    try:
        while waiting:
            left = max(0.0, deadline - time.monotonic())
            ended = select.select(list(waiting), [], [], left)[0]
            if not ended:
                states = [_where_it_is(process) for process in waiting.values()]
                raise FaultFoundError("\n".join(["processes that do not end:", *states]))
            for pidfd in ended:
                os.close(pidfd)
                done += _outcome(waiting.pop(pidfd))
    finally:
        for pidfd in waiting:
            os.close(pidfd)
    return done


def _where_it_is(process: subprocess.Popen[str]) -> str:
    """The functions of the kernel that a process waits in, for root to see."""
    try:
        stack = Path(f"/proc/{process.pid}/stack").read_text(encoding="ascii").splitlines()
    except OSError:
        stack = []
    return " < ".join(line.split()[-1].split("+")[0] for line in stack[:8]) or "unknown"


def _outcome(process: subprocess.Popen[str]) -> int:
    """The operations that a process did which has ended."""
    output = process.communicate()[0]
    if process.returncode == 0:
        return int(output)
    raise FaultFoundError(f"exit status {process.returncode} of a process\n{output}")


def _main() -> int:
    role = Role(**json.loads(sys.argv[1]))
    die_with_parent(role.parent)
    try:
        done = _swap(role) if role.number == role.size else _work(role)
    except FaultFoundError as fault:
        sys.stdout.write(f"process {role.number}: {fault}\n")
        return _FAULT_STATUS
    sys.stdout.write(f"{done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
