"""Data and holes against sets of pages."""

import random
from collections.abc import Iterator

import pytest

from anonfs.mm import AnonInodeInfo, Memory, overlaying, seeking, sync
from anonfs.units import PAGE_SIZE
from tests.mm.engine import engine, inode, page
from tests.mm.test_front_model import BytesStore

_LEAF = 512
_PAGES = 4 * _LEAF
_GIANT = 1 << 38


@pytest.fixture
def memory() -> Iterator[Memory]:
    with engine(frames=64, slots=256) as memory:
        yield memory


def find(memory: Memory, info: AnonInodeInfo, first: int, end: int, *, data: bool) -> int:
    *steps, found = seeking.find(info, memory.loaded, first, end, data=data)
    assert steps == [None] * len(steps)
    assert found is not None
    return found


def check(memory: Memory, info: AnonInodeInfo, data: set[int]) -> None:
    """Ask from each page on which something may change, and from its neighbours."""
    holes = set(range(_PAGES)) - data
    edges = {at + by for at in data for by in (-1, 0, 1)} | {0, _LEAF - 1, _LEAF, _PAGES - 1}
    for first in edges & set(range(_PAGES)):
        for end in (_PAGES, min(_PAGES, first + 3)):
            for wanted, pages in ((True, data), (False, holes)):
                found = find(memory, info, first, end, data=wanted)
                assert found == min((at for at in pages if first <= at < end), default=end)


def test_what_is_data(memory: Memory) -> None:
    info, dice = inode(memory), random.Random(3)
    data: set[int] = set()
    check(memory, info, data)
    for _ in range(12):
        first = dice.choice([0, _LEAF - 2, _LEAF, 3 * _LEAF - 1, dice.randrange(_PAGES - 4)])
        count = dice.randrange(1, 4)
        pages = range(first, first + count)
        if dice.random() < 0.5:
            sync.write(memory, info, first * PAGE_SIZE, page("d") * count)
            sync.swap_out(memory, info, first, first + count - 1)
        else:
            memory.loaded.load(info, first, count)
        data.update(pages)
        check(memory, info, data)
    sync.punch(memory, info, 0, _PAGES * PAGE_SIZE)
    check(memory, info, {at for at in data if memory.loaded.mask(info, at, 1)[0]})


def test_a_front_is_data_where_nothing_hides_it(memory: Memory) -> None:
    info = inode(memory)
    shown = _LEAF + 10
    overlaying.overlay(memory, info, BytesStore(b""), shown * PAGE_SIZE)
    sync.write(memory, info, (shown + 5) * PAGE_SIZE, page("d"))
    check(memory, info, {*range(shown), shown + 5})
    sync.punch(memory, info, 3 * PAGE_SIZE, 20 * PAGE_SIZE)
    sync.punch(memory, info, _LEAF * PAGE_SIZE, 2 * PAGE_SIZE)
    sync.write(memory, info, 7 * PAGE_SIZE, page("d"))
    hidden = {*range(3, 23), _LEAF, _LEAF + 1} - {7}
    check(memory, info, {*range(shown), shown + 5} - hidden)
    sync.punch(memory, info, 0, _PAGES * PAGE_SIZE)
    check(memory, info, set())


def test_what_has_no_table_takes_no_time(memory: Memory) -> None:
    info, far = inode(memory), _GIANT - 700
    sync.write(memory, info, far * PAGE_SIZE, page("d"))
    assert list(seeking.find(info, memory.loaded, 0, _GIANT, data=True)) == [far]
    assert list(seeking.find(info, memory.loaded, far + 1, _GIANT, data=True)) == [None, _GIANT]
    overlaying.overlay(memory, inode(memory, 2), BytesStore(b""), 1)
    other = inode(memory, 3)
    overlaying.overlay(memory, other, BytesStore(b""), far * PAGE_SIZE)
    assert list(seeking.find(other, memory.loaded, 5, _GIANT, data=False)) == [far]


def test_others_may_come_in_between(memory: Memory) -> None:
    info = inode(memory)
    memory.loaded.load(info, 0, 2 * _LEAF)
    search = seeking.find(info, memory.loaded, 0, _PAGES, data=False)
    assert next(search) is None
    memory.loaded.drop(info)
    assert next(search) == _LEAF
