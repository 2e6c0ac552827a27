"""The pages of a locked inode stay in core and loaded; see `test_model` for what comes between."""

import errno

import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import perform, sync
from anonfs.units import PAGE_SIZE
from tests.mm.engine import FaultyStore, engine, inode, page, read, states


def test_reclaim_and_swap_out_pass_over_what_is_locked() -> None:
    with engine(frames=8) as memory:
        kept, other = inode(memory), inode(memory, 2)
        sync.write(memory, kept, 0, page("k") * 4)
        memory.lock(kept)
        sync.write(memory, kept, 4 * PAGE_SIZE, page("k"))
        sync.swap_out(memory, kept, 0, 9)
        for number in range(20):
            sync.write(memory, other, number * PAGE_SIZE, page(f"{number}"))
        assert states(kept, 5) == "ccccc"
        assert memory.frames.locked == 5
        memory.unlock(kept)
        sync.swap_out(memory, kept, 0, 9)
        assert states(kept, 5) == "sssss"
        assert read(memory, kept, 0, 5 * PAGE_SIZE) == page("k") * 5


def test_frames_that_are_all_locked_end_the_search_for_others() -> None:
    with engine(frames=4) as memory:
        kept, other = inode(memory), inode(memory, 2)
        sync.write(memory, kept, 0, page("k") * 4)
        memory.lock(kept)
        with pytest.raises(AnonfsError) as caught:
            sync.write(memory, other, 0, b"x")
        assert caught.value.errno == errno.ENOSPC
        sync.truncate(memory, kept, 3 * PAGE_SIZE)
        sync.write(memory, other, 0, b"x")


@pytest.mark.parametrize("content", ["k", "\0"], ids=["filled", "zeros"])
def test_pages_on_their_way_to_swap_stay(content: str) -> None:
    with engine() as memory:
        kept, other = inode(memory), inode(memory, 2)
        for info in (kept, other):
            sync.write(memory, info, 0, page(content) * 2)
        eviction = memory.work_to_evict(4)
        assert eviction is not None
        memory.lock(kept)
        sync.write(memory, kept, 0, b"new")
        perform(eviction)
        assert states(kept, 2) == "cc"
        assert states(other, 2) in {"ss", "nn"}
        assert read(memory, kept, 0, 2 * PAGE_SIZE) == b"new" + (page(content) * 2)[3:]


def test_what_is_on_swap_is_brought_in_for_others_go() -> None:
    with engine(frames=200, slots=1000) as memory:
        kept, other = inode(memory), inode(memory, 2)
        text = b"".join(page(f"{number}") for number in range(150))
        sync.write(memory, kept, 0, text)
        sync.swap_out(memory, kept, 10, 149)
        sync.write(memory, other, 0, page("o") * 190)
        memory.lock(kept)
        sync.bring_in(memory, kept)
        assert states(kept, 150) == "c" * 150
        assert read(memory, kept, 0, 150 * PAGE_SIZE) == text
        assert other.on_swap >= 140


def test_a_page_that_cannot_be_brought_in() -> None:
    store = FaultyStore(64)
    with engine(store=store) as memory:
        kept = inode(memory)
        sync.write(memory, kept, 0, page("k") * 3)
        sync.swap_out(memory, kept, 0, 2)
        memory.lock(kept)
        store.fail_reads = True
        with pytest.raises(OSError, match="unreadable on swap"):
            sync.bring_in(memory, kept)
        memory.check_invariants()
        assert states(kept, 3) == "sss"


def test_the_hand_never_comes_to_what_is_locked() -> None:
    with engine() as memory:
        kept, other, loaded = inode(memory), inode(memory, 2), memory.loaded
        loaded.load(kept, 0, 5)
        memory.lock(kept)
        loaded.load(kept, 5, 600)
        assert loaded.begin(1) is None
        loaded.load(other, 0, 5)
        assert loaded.at_hand is other
        unload = loaded.begin(1000)
        assert unload is not None
        assert (unload.info, unload.pages, loaded.upcoming(unload)) == (other, 5, [])
        loaded.end(unload)
        memory.check_invariants()
        memory.unlock(kept)
        assert loaded.at_hand is kept


def test_a_lock_that_finds_an_unload_under_way() -> None:
    with engine() as memory:
        kept, loaded = inode(memory), memory.loaded
        loaded.load(kept, 0, 5)
        unload = loaded.begin(5)
        assert unload is not None
        memory.lock(kept)
        loaded.load(kept, 3, 1)
        memory.unlock(kept)
        memory.lock(kept)
        loaded.end(unload)
        assert (loaded.pages, loaded.at_hand) == (1, None)
        memory.check_invariants()
        memory.unlock(kept)
        assert loaded.at_hand is kept


def test_a_locked_inode_that_is_deleted_leaves_nothing_locked() -> None:
    with engine() as memory:
        kept = inode(memory)
        sync.write(memory, kept, 0, page("k") * 3)
        eviction = memory.work_to_evict(3)
        assert eviction is not None
        memory.lock(kept)
        memory.delete(kept)
        assert memory.frames.locked == 0
        perform(eviction)
        memory.check_invariants()
