"""What an operation works with: the model, the crew, the dice, and the way to complain."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tests.judge._actor import Reply
from tests.judge._crew import CallFailedError, Member
from tests.judge._dice import Dice
from tests.judge._model import Inode, Model
from tests.judge.report import FaultFoundError, describe_difference

__all__ = ["Limits", "Plan", "Stage"]

Plan = Callable[[], bool]
"""A follow-up step; False when it had nothing to do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be at a time; ``live`` and ``file`` in bytes."""

    live: int = 20 << 20
    file: int = 4 << 20
    inodes: int = 14
    names: int = 10
    handles: int = 24
    maps: int = 24


class Stage:
    """The state of one run.

    Args:
        crew: who carries operations out.
        seed: what the dice start from.
        limits: bounds on what is alive.
        must_swap_out: whether a file system that cannot swap out on demand fails.
    """

    def __init__(
        self, crew: Sequence[Member], seed: int | str, limits: Limits, *, must_swap_out: bool
    ) -> None:
        self.crew = crew
        self.seed = seed
        self.limits = limits
        self.must_swap_out = must_swap_out
        self.dice = Dice(seed)
        self.model = Model()
        self.plans: deque[Plan] = deque()
        self.step = 0
        self._latest = ""

    def note(self, inode: Inode, text: str) -> None:
        """Remember what is about to be done to ``inode``."""
        self._latest = f"#{self.step} {text}"
        inode.history.append(self._latest)

    def call(self, member: int, inode: Inode | None, operation: str, *arguments: object) -> Reply:
        """Have a member do something that must work."""
        try:
            return self.crew[member].call(operation, *arguments)
        except CallFailedError as failure:
            self.fail(inode, f"{operation} by member {member}: {failure}")

    def any_member(self) -> int:
        """The number of some member."""
        return self.dice.between(0, len(self.crew) - 1)

    def limit(self, inode: Inode) -> int:
        """How long ``inode`` may become, in bytes."""
        room = max(0, self.limits.live - self.model.bytes_alive)
        return max(inode.size, min(self.limits.file, inode.size + room))

    def check_bytes(self, inode: Inode, offset: int, expected: bytes, actual: Reply) -> None:
        """Fail unless a read at ``offset`` of the file gave what it must."""
        if actual != expected:
            assert isinstance(actual, bytes)
            told = describe_difference(expected, actual, offset, self.model.inodes)
            self.fail(inode, f"wrong {told}")

    def check(self, inode: Inode | None, expected: Reply, actual: Reply, what: str) -> None:
        """Fail unless an answer is what it must be."""
        if actual != expected:
            self.fail(inode, f"{what}: expected {expected!r}, actual {actual!r}")

    def fail(self, inode: Inode | None, what: str) -> NoReturn:
        """End the run with all that helps to find the cause."""
        lines = [f"seed {self.seed}, operation {self._latest}", what]
        if inode is not None:
            names = " ".join(inode.names) or "no name"
            held = f"{len(inode.handles)} descriptors, {len(inode.maps)} mappings"
            lines.append(f"inode {inode.number}: {names}, {inode.size} bytes, {held}")
            lines.append("last operations on it:")
            lines.extend(f"  {entry}" for entry in inode.history)
        raise FaultFoundError("\n".join(lines))
