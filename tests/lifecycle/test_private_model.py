"""Random trees of processes: private memory has what the kernel's own has, in each, at each step.

Every process has both, and does the same to both. It is told what to do by the test, over a pipe of
its own that was made before the first fork::

    test ══ pipe 0 ══▶ process 0 ── forks ──▶ process 1 ◀══ pipe 1 ══ test
                            └────── forks ──▶ process 2 ◀══ pipe 2 ══ test
"""

import mmap
import multiprocessing
import os
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from anonfs.client import connect, inspect
from anonfs.units import PAGE_SIZE
from tests.posix.children import SECONDS, Child

_PAGES = 24
_PROCESSES = 6
_PROGRAMS = 60

_NUMBER = st.integers(0, (1 << 16) - 1)
_NAMES = ["store", "store", "store", "fork", "fork", "resize", "zero", "swap", "clear", "exit"]
_OPERATION = st.tuples(st.sampled_from(_NAMES), _NUMBER, _NUMBER, _NUMBER)
_Operation = tuple[str, int, int, int]


class _Process:
    """Runs in a child."""

    def __init__(self, mount: Path, pipes: list[Connection]) -> None:
        self._pipes = pipes
        self._number = 0
        self._ours = connect(mount).private(_PAGES * PAGE_SIZE)
        self._kernels = mmap.mmap(-1, _PAGES * PAGE_SIZE, flags=mmap.MAP_PRIVATE)

    def serve(self) -> None:
        """Do what comes over the pipe, until it is closed."""
        while True:
            try:
                name, *numbers = self._pipes[self._number].recv()
            except EOFError:
                os._exit(0)
            try:
                answer = getattr(self, f"_{name}")(*numbers)
            except Exception:  # noqa: BLE001  the test is told
                answer = traceback.format_exc()
            self._pipes[self._number].send(answer)

    def _same(self) -> bool:
        return self._ours[:] == self._kernels[:] and len(self._ours) == len(self._kernels)

    def _parent(self) -> tuple[str, int, int]:
        """The kind of the inode, its number, and that of its parent."""
        seen = inspect(self._ours)
        return seen.kind, os.fstat(self._ours.fileno()).st_ino, seen.parent.ino

    def _store(self, at: int, count: int, value: int) -> None:
        for memory in (self._ours, self._kernels):
            start = at * 7 % len(memory)
            end = min(start + count % (3 * PAGE_SIZE), len(memory))
            memory[start:end] = bytes([value % 256]) * (end - start)

    def _fork(self, number: int) -> None:
        if os.fork() == 0:  # whose life does not depend on ours
            self._number = number

    def _resize(self, pages: int, tail: int, _: int) -> None:
        size = (pages % (2 * _PAGES) + 1) * PAGE_SIZE - tail % 2 * (tail % PAGE_SIZE)
        for memory in (self._ours, self._kernels):
            memory.resize(size)

    def _zero(self, first: int, count: int, _: int) -> None:
        for memory in (self._ours, self._kernels):
            start = first * PAGE_SIZE % len(memory) // PAGE_SIZE * PAGE_SIZE
            memory.madvise(mmap.MADV_DONTNEED, start, count % 4 * PAGE_SIZE + 1)

    def _swap(self, *_: int) -> None:
        self._ours.swap_out()

    def _clear(self, *_: int) -> None:
        size = len(self._ours)
        for memory in (self._ours, self._kernels):
            memory[:] = bytes(size)


class _Tree:
    """The test's side of the pipes."""

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes
        self._live = [0]
        self._parents: dict[int, int] = {}

    def ask(self, number: int, *order: object) -> object:
        self._pipes[number].send(order)
        return self._answer(number)

    def _answer(self, number: int) -> object:
        assert self._pipes[number].poll(SECONDS), f"process {number} does not answer"
        answer = self._pipes[number].recv()
        assert not isinstance(answer, str), answer
        return answer

    def run(self, operation: _Operation) -> None:
        name, which, *numbers = operation
        number = self._live[which % len(self._live)]
        if name == "fork":
            self._fork(number)
        elif name == "exit":
            self._exit(number)
        else:
            self.ask(number, name, *numbers, which)
        for each in self._live:
            assert self.ask(each, "same"), f"process {each} after {operation}"

    def _fork(self, number: int) -> None:
        child = max(self._live + list(self._parents)) + 1
        if child < len(self._pipes):
            self.ask(number, "fork", child)
            self._answer(child)
            self._live.append(child)
            self._parents[child] = number

    def _exit(self, number: int) -> None:
        if number != 0:
            self._pipes[number].close()
            self._live.remove(number)

    def check_parents(self) -> None:
        """Each inode names the one that it was copied from, as long as there is that."""
        seen = {number: self.ask(number, "parent") for number in self._live}
        for number, (kind, _, parent) in seen.items():  # type: ignore[misc]
            above = self._parents.get(number)
            assert kind == "private"  # type: ignore[has-type]
            if above in seen:
                assert parent == seen[above][1]  # type: ignore[index,has-type]


@pytest.mark.timeout(600)
@settings(
    max_examples=_PROGRAMS,
    deadline=None,
    phases=(Phase.generate,),  # to shrink what fails would take longer than a test may
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(_OPERATION, min_size=8, max_size=24))
def test_private_memory_is_what_the_kernels_own_is(
    shared_mount: Path, operations: list[_Operation]
) -> None:
    ours, theirs = zip(*(multiprocessing.Pipe() for _ in range(_PROCESSES)), strict=True)

    def live() -> None:
        for pipe in ours:
            pipe.close()
        _Process(shared_mount, list(theirs)).serve()

    with Child(live):
        for pipe in theirs:
            pipe.close()
        tree = _Tree(list(ours))
        for operation in operations:
            tree.run(operation)
        tree.check_parents()
        for pipe in ours:
            pipe.close()
