"""What the kernel holds loaded, as far as the engine keeps account of it."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from anonfs.mm import AnonInodeInfo, Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import Ino


@pytest.fixture
def memory() -> Iterator[Memory]:
    with closing(Image(64)) as image:
        made = Memory(image, SwapArea(MemoryStore(64)))
        yield made
        made.check_invariants()


@pytest.fixture
def info(memory: Memory) -> AnonInodeInfo:
    return memory.create(Ino(2))


def test_a_range_on_its_way_out_is_so_where_nothing_was_loaded(
    memory: Memory, info: AnonInodeInfo
) -> None:
    """A READ of such a page that waited for the unload would be waited for by it."""
    loaded = memory.loaded
    loaded.load(info, 100, 8)
    assert not loaded.is_unloading(info, 0, 4096)
    unload = loaded.begin_range(info, 50, 2000)
    assert loaded.is_unloading(info, 1600, 1)
    assert loaded.is_unloading(info, 2040, 20)
    assert not loaded.is_unloading(info, 2050, 20)
    assert not loaded.is_unloading(memory.create(Ino(3)), 100, 8)
    loaded.end(unload)
    assert not loaded.is_unloading(info, 0, 4096)
    assert loaded.pages == 0


def test_what_is_upcoming_is_of_the_same_inode_and_no_more_than_what_goes(
    memory: Memory,
) -> None:
    one, other, loaded = memory.create(Ino(1)), memory.create(Ino(2)), memory.loaded
    loaded.load(one, 0, 4 * 512)
    loaded.load(other, 0, 512)
    unload = loaded.begin(512)
    assert unload is not None
    assert unload.runs == [(0, 512)]
    assert loaded.upcoming(unload) == [(512, 512)]
    loaded.end(unload)
    unload = loaded.begin(2 * 512)
    assert unload is not None
    assert loaded.upcoming(unload) == [(3 * 512, 512)]
    loaded.end(unload)
