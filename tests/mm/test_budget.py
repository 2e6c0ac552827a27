from collections.abc import Iterator

import pytest

from anonfs.mm import Budget, Memory, sync
from tests.mm.engine import engine, inode, page

PAGES = 3200
START, TARGET, HIGH = PAGES - 100, PAGES - 200, PAGES + 100


@pytest.fixture
def memory() -> Iterator[Memory]:
    with engine(frames=64) as memory:
        yield memory


@pytest.fixture
def budget(memory: Memory) -> Budget:
    return Budget(PAGES, memory.frames, memory.loaded)


def test_cost_is_frames_with_memory_and_loaded_pages(memory: Memory, budget: Budget) -> None:
    info = inode(memory)
    assert budget.cost == 0
    sync.write(memory, info, 0, page("a") * 10)
    memory.loaded.load(info, 5, 20)
    assert budget.cost == 30
    sync.swap_out(memory, info, 0, 3)
    assert budget.cost == 30, "a free frame has its memory until it is trimmed"
    memory.frames.trim(3)
    assert budget.cost == 27
    memory.loaded.drop(info)
    assert budget.cost == 7


@pytest.mark.parametrize(
    ("cost", "short", "exceeded"),
    [
        (TARGET, False, False),
        (START, False, False),
        (START + 1, True, False),
        (HIGH, True, False),
        (HIGH + 1, True, True),
    ],
)
def test_marks(memory: Memory, budget: Budget, cost: int, short: bool, exceeded: bool) -> None:
    memory.loaded.load(inode(memory), 0, cost)
    assert (budget.is_short, budget.is_exceeded) == (short, exceeded)
    assert budget.excess == cost - TARGET


@pytest.mark.parametrize("pages", [256, 1000, 2048, 1 << 20])
def test_marks_are_in_order(memory: Memory, pages: int) -> None:
    budget = Budget(pages, memory.frames, memory.loaded)
    assert 0 < budget.target < budget.start < budget.pages < budget.high
    assert budget.staging == max(256, pages // 8)
