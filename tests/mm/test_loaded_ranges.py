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
