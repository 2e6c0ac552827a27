"""Random programs of map, fork, unmap, remap and exit: of them the ring says what /proc says.

A program runs in one process at a time; those that it has forked, or been forked from, only stay::

    map ─ fork ─ unmap ─ descend          the first process: it stays from then on
            │               └── remap     its child goes on with the program
            └── stays, until an exit
"""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from anonfs.client import attach
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import areas_in_proc, ring_in_order
from tests.posix.children import Child, fork, hear, say
from tests.posix.memory import READ, Mapping, remap, unmap

_PAGES = 16
_PROGRAMS = 200

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon has forks reported")

_numbers = itertools.count()
_NUMBER = st.integers(0, _PAGES - 1)
_OPERATION = st.tuples(
    st.sampled_from(["map", "map", "unmap", "unmap", "remap", "fork", "descend", "exit"]),
    _NUMBER,
    _NUMBER,
    _NUMBER,
)
_Operation = tuple[str, int, int, int]


class _Program:
    """Runs in children; ``pages`` are the addresses of pages that were mapped and not unmapped."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR)
        self._pages: list[int] = []
        self._stay: list[int] = []
        self._everybody = [os.getpid()]

    def run(self, operations: list[_Operation]) -> None:
        for name, *numbers in operations:
            steps: dict[str, Callable[[int, int, int], None]] = {
                "map": self._map,
                "unmap": self._unmap,
                "remap": self._remap,
                "fork": self._fork,
                "descend": self._descend,
                "exit": self._exit,
            }
            steps[name](*numbers)
        say(self._everybody)
        hear()

    def _map(self, first: int, last: int, _: int) -> None:
        first, last = min(first, last), max(first, last)
        size = (last - first + 1) * PAGE_SIZE
        address = Mapping(self._fd, size, first * PAGE_SIZE, protection=READ).address
        assert attach(self._fd)
        self._pages += range(address, address + size, PAGE_SIZE)

    def _run_of(self, which: int, most: int) -> tuple[int, int]:
        """Neighbours among the pages: the first address, and how many; 0 where there are none."""
        if not self._pages:
            return 0, 0
        start = self._pages[which % len(self._pages)]
        count = 1
        while count <= most and start + count * PAGE_SIZE in self._pages:
            count += 1
        return start, count

    def _forget(self, start: int, count: int) -> None:
        gone = range(start, start + count * PAGE_SIZE, PAGE_SIZE)
        self._pages = [page for page in self._pages if page not in gone]

    def _unmap(self, which: int, most: int, _: int) -> None:
        start, count = self._run_of(which, most)
        if count:
            unmap(start, count * PAGE_SIZE)
            self._forget(start, count)

    def _remap(self, which: int, most: int, size: int) -> None:
        """Move a few pages, or make them fewer or more; more than one area cannot be."""
        start, count = self._run_of(which, most)
        if not count:
            return
        try:
            found = remap(start, count * PAGE_SIZE, (size + 1) * PAGE_SIZE)
        except OSError:
            return
        assert attach(self._fd)  # no event tells that an area has grown
        self._forget(start, count)
        self._pages += range(found, found + (size + 1) * PAGE_SIZE, PAGE_SIZE)

    def _fork(self, *_: int) -> None:
        pid = fork()
        if pid == 0:
            self._wait_for_the_end()
        self._stay.append(pid)
        self._everybody.append(pid)

    def _descend(self, *_: int) -> None:
        pid = fork()
        if pid:
            self._wait_for_the_end()
        self._stay = []  # no children of ours
        self._everybody.append(os.getpid())

    @staticmethod
    def _wait_for_the_end() -> None:
        while True:
            signal.pause()

    def _exit(self, which: int, *_: int) -> None:
        if self._stay:
            pid = self._stay.pop(which % len(self._stay))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._everybody.remove(pid)


@pytest.mark.timeout(600)
@settings(
    max_examples=_PROGRAMS,
    deadline=None,
    phases=(Phase.generate,),  # to shrink what fails would take longer than a test may
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(_OPERATION, max_size=12))
def test_ring_and_proc_agree(shared_mount: Path, operations: list[_Operation]) -> None:
    # A new one: of the program before it there may be processes that are not dead yet.
    file = shared_mount / f"f{next(_numbers)}"
    with file.open("wb") as new:
        new.truncate(_PAGES * PAGE_SIZE)
    with Child(lambda: _Program(file).run(operations)) as child:
        pids = child.said()
        assert ring_in_order(file) == areas_in_proc(file, pids)
