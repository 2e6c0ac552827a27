"""Where the numbers of meminfo and swaps come from."""

import errno
import os
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from anonfs.errors import AnonfsError
from anonfs.meminfo import Counters, SwapUsage
from anonfs.mm import Image, Memory, sync
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, FileSystem, NewInode
from anonfsd._meminfo import MemStats

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
    assert info.budget == FRAMES * PAGE_SIZE
    assert info.frames == info.frames_free == info.loaded == info.cost == 0
    assert info.swap_total == info.swap_free == SLOTS * PAGE_SIZE
    assert (info.inodes, info.areas, info.dirty) == (1, None, None)
    assert info.counters == Counters()
    assert stats.swaps() == [SwapUsage(None, "file", SLOTS * PAGE_SIZE, 0)]


def test_what_the_engine_counts(stats: MemStats) -> None:
    memory = stats.filesystem.memory
    made = stats.filesystem.make(ROOT, b"f", NewInode(0o100644, 0, 0)).info
    assert made is not None
    sync.write(memory, made, 0, b"x" * 7 * PAGE_SIZE)
    sync.swap_out(memory, made, 0, 3)
    memory.loaded.load(made, 2, 4)
    memory.counters.throttled = 5
    stats.swap_path = "/swap"
    info = stats.now()
    assert (info.loaded, info.swap_cached) == (4 * PAGE_SIZE, 2 * PAGE_SIZE)
    assert (info.frames, info.frames_used) == (7 * PAGE_SIZE, 3 * PAGE_SIZE)
    assert info.cost == info.frames + info.loaded
    assert (info.counters.swap_out, info.counters.reclaim_throttled) == (4, 5)
    assert stats.swaps() == [SwapUsage("/swap", "file", SLOTS * PAGE_SIZE, 4 * PAGE_SIZE)]
    memory.check_invariants()


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
