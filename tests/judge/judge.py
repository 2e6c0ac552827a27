"""The judge: draws operations, one at a time, until one of them goes wrong."""

import itertools
import time
from collections.abc import Sequence

from tests.judge._crew import Crew, Member, Rescue, leave_alone
from tests.judge._dice import Dice
from tests.judge._holding import create
from tests.judge._operations import OPERATIONS, drop_caches
from tests.judge._scrutiny import verify_all
from tests.judge._stage import Limits, Stage

__all__ = ["Judge", "judge_directory"]

_PLANNED = 0.75


class Judge:
    """One run over one directory.

    Args:
        crew: who carries operations out.
        seed: what decides the sequence.
        limits: bounds on what is alive.
        must_swap_out: whether the file system must be able to swap out on demand.
        may_drop_caches: whether the whole machine's page cache may be dropped, rarely.
    """

    def __init__(
        self,
        crew: Sequence[Member],
        seed: int | str,
        limits: Limits | None = None,
        *,
        must_swap_out: bool = False,
        may_drop_caches: bool = False,
    ) -> None:
        self.stage = Stage(crew, seed, limits or Limits(), must_swap_out=must_swap_out)
        table = [*OPERATIONS, (drop_caches, 0.02)] if may_drop_caches else OPERATIONS
        self._operations = [operation for operation, _ in table]
        self._weights = list(itertools.accumulate(weight for _, weight in table))

    def run(self, operations: int, seconds: float | None = None) -> int:
        """Do ``operations``, or as many as ``seconds`` allow, and read all back; their number.

        Raises:
            FaultFoundError: the file system did wrong.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        done = 0
        while done < operations and (deadline is None or time.monotonic() < deadline):
            self.do_one()
            done += 1
        verify_all(self.stage)
        return done

    def do_one(self) -> None:
        """Do the next operation."""
        stage = self.stage
        stage.step += 1
        while stage.plans and stage.dice.chance(_PLANNED):
            if stage.plans.popleft()():
                return
        if not stage.model.inodes and create(stage):
            return
        while not stage.dice.weighted(self._operations, self._weights)(stage):
            pass


def judge_directory(
    directory: str,
    seed: int | str,
    operations: int,
    *,
    seconds: float | None = None,
    members: int = 3,
    limits: Limits | None = None,
    must_swap_out: bool = False,
    may_drop_caches: bool = False,
    rescue: Rescue = leave_alone,
) -> int:
    """Judge the file system of ``directory`` in a fresh directory of it; operations done.

    ``rescue`` is called when it does not answer: it may free those that wait for ever.

    Raises:
        FaultFoundError: with a report, and the seed.
    """
    Dice.warm_up()
    with Crew(f"{directory}/judged-{seed}", members, rescue) as crew:
        judge = Judge(
            crew,
            seed,
            limits,
            must_swap_out=must_swap_out,
            may_drop_caches=may_drop_caches,
        )
        return judge.run(operations, seconds)
