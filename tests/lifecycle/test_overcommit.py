"""With --overcommit sizes are free, and what fails once a mount is full is the fault.

So a store to a page that nobody can be promised room for gets SIGBUS; and every store that returned
is there afterwards, since no write-back ever fails for want of room.
"""

import mmap
import os
import random
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anonfs.client import connect
from anonfs.inspection import PageCounts, Reserved
from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, eventually
from tests.posix.descriptors import descriptor
from tests.posix.memory import READ, Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_ROOM = 1024 + 2048 - 256
"""Pages of budget and swap, without those that are never promised."""

_BUDGET = 1024
_GIANT = 1 << 40
_WORD = 8


@pytest.fixture
def small(mount_factory: Callable[..., Mounted]) -> Mounted:
    return mount_factory(budget="4M", swap_size="8M", overcommit=True)


def _page(seed: int, number: int) -> bytes:
    text = b"%d %d " % (seed, number)
    return (text * (PAGE_SIZE // len(text) + 1))[:PAGE_SIZE]


def _scattered(seed: int) -> list[int]:
    """Pages of which no two are near one another."""
    return random.Random(seed).sample(range(0, _GIANT // PAGE_SIZE, 1000), _ROOM)


def _in_a_row(seed: int) -> list[int]:
    return list(range(seed * 10**6, seed * 10**6 + _ROOM))


@dataclass
class _Writer:
    """A process that stores to ``pages`` of a giant, one after the other, until it dies of it."""

    path: Path
    seed: int
    pages: list[int]
    stored: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, _WORD))

    def run(self) -> None:
        with descriptor(self.path) as fd:
            os.ftruncate(fd, _GIANT)
            mapping = Mapping(fd, _GIANT)
            for count, page in enumerate(self.pages, 1):
                mapping.write(page * PAGE_SIZE, _page(self.seed, page))
                self.stored[:] = count.to_bytes(_WORD, "little")

    @property
    def count(self) -> int:
        """How many stores have returned."""
        return int.from_bytes(self.stored[:], "little")

    def check(self) -> None:
        """All that was stored is there."""
        with descriptor(self.path, os.O_RDONLY) as fd:
            for page in self.pages[: self.count]:
                found = os.pread(fd, PAGE_SIZE, page * PAGE_SIZE)
                assert found == _page(self.seed, page), (self.path, page)


def _swap_out(path: Path) -> None:
    """Have a file written back and forgotten, and swapped out as far as there is room."""
    assert outcome(os.setxattr, path, "user.anonfs.swapout", b"all") in {None, "ENOSPC"}


def _reserved(path: Path) -> int:
    return Reserved.parse(os.getxattr(path, "user.anonfs.reserved").decode()).pages


def _allocated(path: Path) -> int:
    found = PageCounts.parse(os.getxattr(path, "user.anonfs.pages").decode())
    return found.in_core + found.on_swap


def _check_given_back(mounted: Mounted) -> None:
    for path in mounted.path.iterdir():
        path.unlink()

    def given_back() -> bool:
        info = connect(mounted.path).meminfo()
        return (info.promised, info.promisable) == (0, _ROOM * PAGE_SIZE)

    eventually(given_back, "all promises are given back")


def test_stores_beyond_the_room_get_sigbus_and_the_others_stay(small: Mounted) -> None:
    kinds = (_in_a_row, _scattered, _in_a_row, _scattered)
    writers = [
        _Writer(small.path / f"f{seed}", seed, pages(seed)) for seed, pages in enumerate(kinds)
    ]
    with ExitStack() as stack:
        watched = [stack.enter_context(descriptor(writer.path)) for writer in writers]
        children = [stack.enter_context(Child(writer.run)) for writer in writers]
        for child in children:
            while not child.has_said(0.01):
                for writer in writers:
                    # Asked for in this order, for both grow.
                    allocated = _allocated(writer.path)
                    assert _reserved(writer.path) >= allocated
            assert child.wait() == -signal.SIGBUS
        stored = sum(writer.count for writer in writers)
        assert _ROOM - _BUDGET <= stored <= _ROOM, "what was handed out may have stayed holes"
        for writer in writers:
            _swap_out(writer.path)
            writer.check()
            assert _reserved(writer.path) >= _allocated(writer.path) >= writer.count
        for fd in watched:
            os.fsync(fd)  # A WRITE that had failed would be told here.
    assert small.log_text().count("refused for want of room") == 1
    _check_given_back(small)


def test_a_giant_can_be_read_with_a_small_budget(small: Mounted) -> None:
    """A page that was handed out and stayed a hole gives its promise back when it is dropped."""
    size, step = 10 << 30, 1 << 20
    with descriptor(small.path / "giant") as fd:
        os.ftruncate(fd, size)
        os.pwrite(fd, b"x", size // 2)
        mapping = Mapping(fd, size, protection=READ)
        zeros = bytes(PAGE_SIZE)
        for offset in range(0, size, step):
            expected = b"x" + zeros[1:] if offset == size // 2 else zeros
            assert mapping.read(offset, PAGE_SIZE) == expected
        for offset in range(0, size >> 5, step):
            assert not any(os.pread(fd, step, offset))
        assert _reserved(small.path / "giant") <= _ROOM
        mapping.unmap()
    _check_given_back(small)
