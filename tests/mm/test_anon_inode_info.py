import numpy as np

from anonfs.mm import sync
from anonfs.units import PAGE_SIZE
from tests.mm.engine import engine, inode, page, states


def test_runs_join_across_leaves_and_span_holes() -> None:
    with engine(frames=8) as memory:
        info = inode(memory)
        sync.write(memory, info, 510 * PAGE_SIZE, page("a") * 4)
        runs = [(first, last, state.label) for first, last, state in info.runs(1 << 32)]
        assert runs == [
            (0, 509, "none"),
            (510, 513, "in_core"),
            (514, (1 << 32) - 1, "none"),
        ]


def test_runs_of_nothing_and_of_a_cut_leaf() -> None:
    with engine() as memory:
        info = inode(memory)
        assert list(info.runs(0)) == []
        assert states(info, 3) == "nnn"
        sync.write(memory, info, 0, page("a") * 3)
        assert states(info, 2) == "cc"


def test_a_range_across_leaves_and_holes_is_gathered() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 511 * PAGE_SIZE, page("a") * 2)
        entries = info.entries(510, 4)
        assert (entries != 0).tolist() == [False, True, True, False]


def test_a_huge_range_looks_at_the_leaves_that_are_there() -> None:
    with engine() as memory:
        info = inode(memory)
        for index in (0, 1 << 20, 1 << 28):
            sync.write(memory, info, index << 21, page("x"))
        spans = list(info.spans(0, 1 << 40))
        assert [span.first for span in spans] == [0, 1 << 29, 1 << 37]
        assert all(np.count_nonzero(span.entries) == 1 for span in spans)


def test_leaves_are_given_back_when_their_last_page_goes() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 511 * PAGE_SIZE, page("a") * 2)
        assert memory.leaves.live == 2
        memory.freeing.clear(info, 512)
        assert memory.leaves.live == 1
        memory.freeing.clear(info, 0, 511)
        assert memory.leaves.live == 1
        memory.freeing.clear(info, 511, 1)
        assert memory.leaves.live == 0
