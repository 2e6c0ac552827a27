"""A mount that is full to the last page: what it took it keeps, and what it cannot take it says.

By default that is said to the ftruncate(2) or write(2) that asks for too much. So nobody is killed
by SIGBUS, and nothing that was dirtied through a mapping is lost, however full the mount is.
"""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, eventually, hear, say
from tests.posix.descriptors import descriptor
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_ROOM = 1024 + 2048 - 256
"""Pages of budget and swap, without those that are never promised."""

_WRITERS = 4


@pytest.fixture
def small(mount_factory: Callable[..., Mounted]) -> Mounted:
    return mount_factory(budget="4M", swap_size="8M")


def _free(place: Path) -> int:
    found = os.statvfs(place)
    assert found.f_bfree == found.f_bavail
    return found.f_bfree


def _page(path: Path, number: int, generation: int) -> bytes:
    """What a page of a file holds; none is like another."""
    text = f"{path.name} {number} {generation} ".encode()
    return (text * (PAGE_SIZE // len(text) + 1))[:PAGE_SIZE]


@dataclass
class _File:
    """A file of a writer; all pages that were acknowledged hold generation ``generation``."""

    path: Path
    pages: int
    generation: int = 0
    mapping: Mapping | None = None

    def expected(self) -> bytes:
        return b"".join(_page(self.path, n, self.generation) for n in range(self.pages))

    def rewrite(self, dice: random.Random) -> None:
        """Write all pages anew, in some order."""
        self.generation += 1
        numbers = dice.sample(range(self.pages), self.pages)
        with descriptor(self.path) as fd:
            for number in numbers:
                data = _page(self.path, number, self.generation)
                if self.mapping is not None:
                    self.mapping.write(number * PAGE_SIZE, data)
                else:
                    assert os.pwrite(fd, data, number * PAGE_SIZE) == PAGE_SIZE


def _by_mapping(path: Path, pages: int) -> _File | None:
    """A file made by ftruncate and dirtied through a mapping, or None if there is no room."""
    with descriptor(path) as fd:
        if outcome(os.ftruncate, fd, pages * PAGE_SIZE) == "ENOSPC":
            path.unlink()
            return None
        file = _File(path, pages, mapping=Mapping(fd, pages * PAGE_SIZE))
        assert file.mapping is not None
        for number in range(pages):
            file.mapping.write(number * PAGE_SIZE, _page(path, number, 0))
    return file


def _by_write(path: Path, pages: int) -> _File | None:
    """A file made by write(2), as far as there is room."""
    done = 0
    with descriptor(path) as fd:
        while done < pages and outcome(os.write, fd, _page(path, done, 0)) == PAGE_SIZE:
            done += 1
    if done == 0:
        path.unlink()
        return None
    return _File(path, done)


def _fill(place: Path, seed: int) -> None:
    """Make files until not one page is left, then rewrite them when told."""
    dice = random.Random(seed)
    files: list[_File] = []
    most = 300
    while most:
        make = dice.choice([_by_mapping, _by_write])
        pages = dice.randint(1, most)
        made = make(place / f"{seed}-{len(files)}", pages)
        if made is not None:
            files.append(made)
        if made is None or made.pages < pages:
            most = pages - 1
    say([(file.path, file.pages) for file in files])
    while hear() == "rewrite":
        for file in dice.sample(files, len(files)):
            file.rewrite(dice)
        say("rewritten")


def _swap_out(path: Path) -> None:
    """Have a file written back and forgotten, and swapped out as far as there is room."""
    assert outcome(os.setxattr, path, "user.anonfs.swapout", b"all") in {None, "ENOSPC"}


@contextmanager
def _writers(place: Path) -> Iterator[list[Child]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Child(_fill, place, seed)) for seed in range(_WRITERS)]


def test_full_to_the_last_page(small: Mounted) -> None:
    place = small.path
    assert _free(place) == os.statvfs(place).f_blocks == _ROOM
    with _writers(place) as writers:
        files = [_File(*made) for writer in writers for made in writer.said()]
        for generation in range(3):
            assert _free(place) == 0
            assert sum(file.pages for file in files) == _ROOM
            for file in files:
                _swap_out(file.path)
            for file in files:
                file.generation = generation
                assert file.path.read_bytes() == file.expected(), file.path
            for writer in writers:
                writer.tell("rewrite")
            for writer in writers:
                assert writer.said() == "rewritten"
        for writer in writers:
            writer.tell("end")
            assert writer.wait() == 0
    for file in files:
        file.path.unlink()
    eventually(lambda: _free(place) == _ROOM, "all pages are free again")
    assert small.log_text().count("--overcommit") == 1


def test_a_refused_size_changes_nothing(small: Mounted) -> None:
    path = small.path / "f"
    path.write_bytes(b"kept")
    assert outcome(os.truncate, path, (_ROOM + 1) * PAGE_SIZE) == "ENOSPC"
    assert path.read_bytes() == b"kept"
    assert os.getxattr(path, "user.anonfs.reserved") == b"pages=1"
    os.truncate(path, _ROOM * PAGE_SIZE)
    assert os.getxattr(path, "user.anonfs.reserved") == b"pages=%d" % _ROOM
    assert outcome((small.path / "other").write_bytes, b"x") == "ENOSPC"


def test_posix_fallocate(small: Mounted) -> None:
    with descriptor(small.path / "f") as fd:
        os.posix_fallocate(fd, 0, 100 * PAGE_SIZE)
        assert _free(small.path) == _ROOM - 100
        assert outcome(os.posix_fallocate, fd, 0, (_ROOM + 1) * PAGE_SIZE) == "ENOSPC"
        os.ftruncate(fd, 0)
        assert _free(small.path) == _ROOM


def test_replacing_and_emptying_files_makes_room(small: Mounted) -> None:
    place = small.path
    (place / "a").write_bytes(b"a" * (_ROOM - 5) * PAGE_SIZE)
    (place / "b").write_bytes(b"b" * 3 * PAGE_SIZE)
    (place / "b").rename(place / "a")
    eventually(lambda: _free(place) == _ROOM - 3, "the file renamed over is gone")
    with descriptor(place / "a", os.O_RDWR | os.O_TRUNC):
        assert _free(place) == _ROOM


def test_a_program_may_die_in_the_middle(small: Mounted) -> None:
    """What it dirtied is written back after it, into a mount that is full."""
    path = small.path / "f"
    with Child(_fill, small.path, 7) as child:
        made = [_File(*made) for made in child.said()]
        child.kill(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    for file in made:
        _swap_out(file.path)
        assert file.path.read_bytes() == file.expected()
    assert outcome(path.write_bytes, b"x") == "ENOSPC"


def test_sizes_are_free_with_overcommit(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory(budget="4M", swap_size="8M", overcommit=True)
    path = mounted.path / "f"
    with descriptor(path) as fd:
        os.ftruncate(fd, 1 << 44)
        assert _free(mounted.path) == _ROOM
        os.pwrite(fd, b"x" * PAGE_SIZE, 1 << 43)
        assert _free(mounted.path) == _ROOM - 1
        assert os.getxattr(fd, "user.anonfs.reserved") == b"pages=1"
        written = 0
        while outcome(os.pwrite, fd, b"y" * PAGE_SIZE, written) == PAGE_SIZE:
            written += PAGE_SIZE
        assert outcome(os.pwrite, fd, b"y", written) == "ENOSPC"
        assert written == (_ROOM - 1) * PAGE_SIZE
        os.ftruncate(fd, 0)
    assert _free(mounted.path) == _ROOM
    assert "--overcommit" not in mounted.log_text()
