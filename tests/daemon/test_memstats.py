"""Where the numbers of meminfo and swaps come from."""

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from anonfs.errors import AnonfsError
from anonfs.meminfo import Counters, SwapUsage
from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE
from anonfs.vfs import FileSystem, NewInode
from anonfsd._meminfo import MemStats, NothingLoaded

FRAMES, SLOTS = 512, 1024


class FakeRings:
    """Finds one dirty page, unless /proc does not answer."""

    def __init__(self) -> None:
        self.answers = True

    async def look(self) -> None:
        if not self.answers:
            raise AnonfsError(errno.EAGAIN)

    async def dirty_bytes(self) -> int:
        return PAGE_SIZE


@pytest.fixture
def stats() -> Iterator[MemStats]:
    image = Image(FRAMES)
    memory = Memory(image, SwapArea(MemoryStore(SLOTS)))
    filesystem = FileSystem(image, memory, NewInode(0o040755, 0, 0))
    rings: Any = FakeRings()
    yield MemStats(filesystem, FRAMES * PAGE_SIZE, rings)
    image.close()


def test_what_is_known_without_more(stats: MemStats) -> None:
    info = stats.now()
    assert info.frames == info.frames_free == info.cost == info.budget == FRAMES * PAGE_SIZE
    assert info.swap_total == info.swap_free == SLOTS * PAGE_SIZE
    assert (info.inodes, info.areas, info.dirty) == (1, None, None)
    assert info.counters == Counters()
    assert stats.swaps() == [SwapUsage(None, "file", SLOTS * PAGE_SIZE, 0)]


def test_parts_that_count_for_themselves(stats: MemStats) -> None:
    stats.loaded = NothingLoaded(pages=30, on_swap=10)
    stats.frames = lambda: 100
    stats.counted = lambda: Counters(swap_in=5)
    stats.retired = lambda: 3
    stats.swap_errors = lambda: 4
    stats.swap_path = "/swap"
    info = stats.now()
    assert (info.loaded, info.swap_cached) == (30 * PAGE_SIZE, 10 * PAGE_SIZE)
    assert (info.frames, info.cost) == (100 * PAGE_SIZE, 130 * PAGE_SIZE)
    assert info.swap_retired == 3 * PAGE_SIZE
    assert info.counters.swap_in == 5
    assert stats.swaps() == [SwapUsage("/swap", "file", SLOTS * PAGE_SIZE, 0, 3 * PAGE_SIZE, 4)]


@pytest.mark.parametrize(("uid", "dirty"), [(0, PAGE_SIZE), (1000, None)])
def test_only_root_sees_all_that_is_dirty(
    stats: MemStats, monkeypatch: pytest.MonkeyPatch, uid: int, dirty: int | None
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    info = trio.run(stats.look)
    assert (info.areas, info.dirty) == (0, dirty)


def test_a_proc_that_does_not_answer(stats: MemStats) -> None:
    rings: Any = stats.rings
    rings.answers = False
    assert trio.run(stats.look) == stats.now()
