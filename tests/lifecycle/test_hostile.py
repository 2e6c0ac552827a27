"""Clients that die at the worst moment, and many at once: the daemon goes on, and its log is clean.

The daemon checks its own invariants all the while.
"""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from anonfs.inspection import Counts
from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, eventually, hear, say
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_PAGES = 4096
"""Twice the budget."""


@pytest.fixture
def checking(mount_factory: Callable[..., Mounted]) -> Mounted:
    """A mount whose daemon keeps checking its invariants."""
    return mount_factory(arguments=["--check"], swap_size="64M")


def _open(path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    os.ftruncate(fd, _PAGES * PAGE_SIZE)
    return fd


def _fault(path: Path, seed: int) -> None:
    """Reads and writes random pages until it is killed."""
    dice = random.Random(seed)
    mapping = Mapping(_open(path), _PAGES * PAGE_SIZE)
    say("runs")
    while True:
        page = dice.randrange(_PAGES)
        mapping.write(page * PAGE_SIZE + 8 * dice.randrange(500), b"%08d" % page)
        mapping.read(dice.randrange(_PAGES) * PAGE_SIZE, 8)
        if dice.random() < 0.01:
            mapping.sync()
            say("goes on")


def _swap_out(path: Path, seed: int) -> None:
    """Writes pages and has them swapped out until it is killed."""
    dice = random.Random(seed)
    fd = _open(path)
    say("runs")
    while True:
        first = dice.randrange(_PAGES - 64)
        os.pwrite(fd, b"%08d" % seed * 512 * 64, first * PAGE_SIZE)
        wanted = b"all" if dice.random() < 0.1 else b"%d-%d" % (first, first + 63)
        outcome(os.setxattr, fd, "user.anonfs.swapout", wanted)
        say("goes on")


def _counts(path: Path) -> Counts:
    return Counts.parse(os.getxattr(path, "user.anonfs.count").decode())


def _is_released(path: Path) -> bool:
    return _counts(path).opens == 0


def _check_works(mounted: Mounted) -> None:
    """Everybody has gone, and everything works."""
    assert mounted.responds()
    for path in mounted.path.iterdir():
        eventually(partial(_is_released, path), "files are released")
        assert _counts(path).areas == 0
        path.unlink()
    (mounted.path / "after").write_bytes(b"works" * 10_000)
    os.setxattr(mounted.path / "after", "user.anonfs.swapout", b"all")
    assert (mounted.path / "after").read_bytes() == b"works" * 10_000
    (mounted.path / "after").unlink()
    found = os.statvfs(mounted.path)
    eventually(lambda: os.statvfs(mounted.path).f_bfree == found.f_blocks, "all pages are free")


@contextlib.contextmanager
def _crowd(count: int, act: Callable[[int], object]) -> Iterator[list[Child]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Child(act, number)) for number in range(count)]


def _act_on(place: Path, act: Callable[[Path, int], None], seed: int, number: int) -> None:
    act(place / f"f{number % 2}", seed + number)


@pytest.mark.parametrize("act", [_fault, _swap_out], ids=["faulting", "swapping out"])
def test_killed_in_the_middle(checking: Mounted, act: Callable[[Path, int], None]) -> None:
    dice = random.Random(5)
    for turn in range(5):
        with _crowd(4, partial(_act_on, checking.path, act, 10 * turn)) as children:
            for child in children:
                for _ in range(dice.randrange(1, 5)):
                    assert child.said() in {"runs", "goes on"}
            for child in dice.sample(children, len(children)):
                child.kill()
                child.wait()
    _check_works(checking)


def test_an_unlinked_file_of_a_killed_process(checking: Mounted) -> None:
    def act(number: int) -> None:
        path = checking.path / f"g{number}"
        fd = _open(path)
        mapping = Mapping(fd, _PAGES * PAGE_SIZE)
        path.unlink()
        say("runs")
        while True:
            mapping.write(0, b"%08d" % number * 512 * 600)
            outcome(os.setxattr, fd, "user.anonfs.swapout", b"all")
            say("goes on")

    with _crowd(4, act) as children:
        for child in children:
            assert [child.said() for _ in range(3)] == ["runs", "goes on", "goes on"]
    assert not list(checking.path.iterdir())
    _check_works(checking)


def test_fifty_at_once(checking: Mounted) -> None:
    """Each opens, maps, forks, and sees what its child wrote."""
    shared = checking.path / "shared"
    os.close(_open(shared))

    def act(number: int) -> bool:
        say("ready")
        hear()
        fd = _open(shared)
        mapping = Mapping(fd, _PAGES * PAGE_SIZE)
        own = checking.path / f"own-{number}"
        own.write_bytes(b"%08d" % number * 512)
        offset = number * 40 * PAGE_SIZE
        pid = os.fork()
        if pid == 0:
            mapping.write(offset, b"%08d" % number * 512 * 4)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seen = mapping.read(offset, 4 * PAGE_SIZE) == b"%08d" % number * 512 * 4
        kept = own.read_bytes() == b"%08d" % number * 512
        mapping.unmap()
        os.close(fd)
        return status == 0 and seen and kept

    with _crowd(50, act) as children:
        for child in children:
            assert child.said() == "ready"
        for child in children:
            child.tell()
        assert [child.said() for child in children] == [True] * 50
    with shared.open("rb") as file:
        for number in range(50):
            found = os.pread(file.fileno(), PAGE_SIZE, number * 40 * PAGE_SIZE)
            assert found == b"%08d" % number * 512
    _check_works(checking)
