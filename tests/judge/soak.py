"""The judge for hours: fresh mounts, fresh seeds, until the first fault or the end of the time.

``python -m tests.judge.soak --hours H`` (or ``--minutes M``). Runs of one operation at a time,
which a seed replays, take turns with crowds, which only the scheduler could replay.
"""

import argparse
import itertools
import secrets
import sys
import time

from tests.judge.crowd import crowd_directory
from tests.judge.judge import judge_directory
from tests.judge.report import FaultFoundError
from tests.support.mounts import Mounted, UncleanError

__all__ = ["main"]

_BUDGETS = ("2M", "4M", "8M")
_DAEMONS = (["-m", "anonfsd"], ["-m", "tests.judge.planted", "slow-swap"])
_OPERATIONS = 30_000
_RUN_SECONDS = 60.0


def _one_run(seed: int, budget: str, daemon: list[str], *, crowd: bool, seconds: float) -> str:
    """One fresh mount, judged; what it was."""
    what = f"seed {seed}, budget {budget}, {daemon[-1]}, {'crowd' if crowd else 'judge'}"
    try:
        with Mounted(budget=budget, program=daemon) as mounted:
            place, abort = str(mounted.path), mounted.abort
            if crowd:
                done = crowd_directory(place, seed, seconds, must_swap_out=True, rescue=abort)
            else:
                done = judge_directory(
                    place, seed, _OPERATIONS, seconds=seconds, must_swap_out=True, rescue=abort
                )
    except (FaultFoundError, UncleanError) as fault:
        fault.add_note(what)
        raise
    return f"{what}: {done} operations, no fault"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Soak for the time that the options give; 1 when a fault was found."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    options = parser.parse_args()
    end = time.monotonic() + 60 * (60 * options.hours + options.minutes or 60)
    turns = itertools.cycle(itertools.product(_DAEMONS, _BUDGETS, (False, True)))
    for daemon, budget, crowd in turns:
        seconds = min(_RUN_SECONDS, end - time.monotonic())
        if seconds <= 0:
            return 0
        seed = secrets.randbelow(1 << 31)
        try:
            _say(_one_run(seed, budget, daemon, crowd=crowd, seconds=seconds))
        except (FaultFoundError, UncleanError) as fault:
            _say("\n".join([str(fault), *fault.__notes__]))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
