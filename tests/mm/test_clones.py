"""Copies of inodes: what they share, what a change of either costs, and where there is no room."""

import errno

import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo, BadPageError, Memory, cutting, sync
from anonfs.units import PAGE_SIZE, Ino
from tests.mm.engine import FaultyStore, engine, inode, page, read, states

both_ways = pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])


def filled(memory: Memory, pages: int, *, first: int = 0) -> AnonInodeInfo:
    info = inode(memory)
    sync.write(memory, info, first * PAGE_SIZE, b"".join(page(str(n % 10)) for n in range(pages)))
    return info


@both_ways
def test_a_copy_takes_no_frame_until_one_side_writes(lazy: bool) -> None:
    with engine(frames=2100) as memory:
        source = filled(memory, 1024)
        copy = memory.clone(source, Ino(2), lazy=lazy)
        assert memory.leaves.live == (2 if lazy else 4)
        assert memory.frames.used == 1024
        assert copy.in_core == 1024
        sync.write(memory, copy, 3 * PAGE_SIZE + 7, b"copy")
        sync.write(memory, source, 600 * PAGE_SIZE, b"source")
        assert memory.leaves.live == 4
        assert memory.frames.used == 1026
        assert read(memory, source, 3 * PAGE_SIZE, PAGE_SIZE) == page("3")
        assert read(memory, copy, 3 * PAGE_SIZE, PAGE_SIZE) == b"3" * 7 + b"copy" + page("3")[11:]
        assert read(memory, copy, 600 * PAGE_SIZE, PAGE_SIZE) == page("0")
        sync.write(memory, copy, 3 * PAGE_SIZE, page("x"))
        assert memory.frames.used == 1026


@both_ways
def test_a_sparse_giant_costs_what_exists_of_it(lazy: bool) -> None:
    with engine() as memory:
        source = filled(memory, 1, first=(1 << 50) // PAGE_SIZE - 1)
        copy = memory.clone(source, Ino(2), lazy=lazy)
        assert memory.leaves.live == 2 - lazy
        assert read(memory, copy, (1 << 50) - PAGE_SIZE, PAGE_SIZE) == page("0")


@both_ways
def test_a_page_is_swapped_once_for_all_who_share_it(lazy: bool) -> None:
    with engine() as memory:
        source = filled(memory, 4)
        copies = [memory.clone(source, Ino(2 + n), lazy=lazy) for n in range(300)]
        eviction, _ = memory.work_to_swap_out(copies[7], 0, 3)
        assert eviction is not None
        copies.append(memory.clone(copies[299], Ino(400), lazy=lazy))
        memory.delete(source)
        eviction.run()
        eviction.finish()
        runs = eviction.swapped()
        assert sorted(runs, key=lambda run: run[0].ino) == [(copy, 0, 4) for copy in copies]
        assert (memory.swap.used, memory.frames.used) == (4, 0)
        assert {states(copy, 4) for copy in copies} == {"ssss"}
        assert read(memory, copies[3], PAGE_SIZE, PAGE_SIZE) == page("1")
        sync.write(memory, copies[3], PAGE_SIZE + 1, b"-")
        assert (memory.swap.used, memory.frames.used) == (4, 1)
        assert read(memory, copies[4], 0, 4 * PAGE_SIZE)[PAGE_SIZE : 2 * PAGE_SIZE] == page("1")


def test_many_leaves_are_freed_whoever_owned_what_was_shared() -> None:
    """More of them than are freed in one step, some with several owners and some with one."""
    leaves = 150
    with engine(frames=400, slots=400) as memory:
        source = inode(memory)
        for leaf in range(leaves):
            sync.write(memory, source, leaf * 512 * PAGE_SIZE, page("s"))
        eager, other = (memory.clone(source, Ino(2 + n), lazy=False) for n in range(2))
        lazy = memory.clone(source, Ino(4), lazy=True)
        for leaf in range(0, leaves, 3):
            sync.write(memory, lazy, leaf * 512 * PAGE_SIZE, page("l"))
        memory.lock(eager)
        sync.swap_out(memory, source, 512, 40 * 512)
        memory.delete(source)
        memory.check_invariants()
        assert (eager.allocated, other.allocated, lazy.allocated) == (leaves, leaves, leaves)
        memory.unlock(eager)
        memory.delete(eager)
        memory.check_invariants()
        cutting.truncate(memory, lazy, 70 * 512 * PAGE_SIZE + PAGE_SIZE)
        memory.check_invariants()
        assert (lazy.allocated, memory.leaves.live) == (71, leaves + 71)
        for leaf in range(leaves):
            assert read(memory, other, leaf * 512 * PAGE_SIZE, PAGE_SIZE) == page("s")
        assert read(memory, lazy, 69 * 512 * PAGE_SIZE, PAGE_SIZE) == page("l")


@both_ways
def test_pages_of_zeros_cease_to_exist_for_all_who_share_them(lazy: bool) -> None:
    with engine() as memory:
        source = inode(memory)
        sync.write(memory, source, 0, bytes(2 * PAGE_SIZE))
        copy = memory.clone(source, Ino(2), lazy=lazy)
        sync.swap_out(memory, copy, 0, 1)
        assert (source.allocated, copy.allocated, memory.leaves.live) == (0, 0, 0)


@both_ways
def test_a_page_that_swap_damaged_is_lost_to_all_and_a_retired_slot_to_none(lazy: bool) -> None:
    store = FaultyStore(8)
    store.bad_writes = {2}
    with engine(store=store) as memory:
        source = filled(memory, 3)
        copy = memory.clone(source, Ino(2), lazy=lazy)
        eviction, _ = memory.work_to_swap_out(source, 0, 2)
        assert eviction is not None
        eviction.run()
        eviction.finish()
        assert (states(source, 3), states(copy, 3), memory.swap.retired) == ("scs", "scs", 1)
        assert read(memory, copy, PAGE_SIZE, PAGE_SIZE) == page("1")
        store.damage(1)
        for info in (source, copy):
            with pytest.raises(BadPageError):
                read(memory, info, 0, PAGE_SIZE)


@both_ways
@pytest.mark.parametrize("swapped", [False, True], ids=["in core", "on swap"])
def test_a_cut_of_a_shared_page_goes_to_a_slot_where_no_frame_is_free(
    lazy: bool, swapped: bool
) -> None:
    with engine(frames=2, slots=4) as memory:
        source = filled(memory, 1)
        copy = memory.clone(source, Ino(2), lazy=lazy)
        if swapped:
            sync.swap_out(memory, source, 0, 0)
        other = inode(memory, 3)
        sync.write(memory, other, 0, page("o") * memory.frames.free)
        sync.truncate(memory, copy, 5)
        assert states(copy, 1) == "s"
        assert read(memory, copy, 0, PAGE_SIZE) == b"00000" + bytes(PAGE_SIZE - 5)
        assert read(memory, source, 0, PAGE_SIZE) == page("0")


@both_ways
@pytest.mark.parametrize("swapped", [False, True], ids=["in core", "on swap"])
def test_a_cut_of_a_shared_page_fails_where_there_is_no_room_at_all(
    lazy: bool, swapped: bool
) -> None:
    with engine(frames=2, slots=2) as memory:
        source = filled(memory, 1)
        copy = memory.clone(source, Ino(2), lazy=lazy)
        other = inode(memory, 3)
        if swapped:
            sync.swap_out(memory, source, 0, 0)
        for at in range(memory.swap.free):
            sync.write(memory, other, at * PAGE_SIZE, page("o"))
            sync.swap_out(memory, other, at, at)
        sync.write(memory, other, 9 * PAGE_SIZE, page("o") * memory.frames.free)
        assert (memory.frames.free, memory.swap.free) == (0, 0)
        with pytest.raises(AnonfsError) as refused:
            sync.truncate(memory, copy, 5)
        assert refused.value.errno == errno.ENOSPC
        assert read(memory, copy, 0, PAGE_SIZE) == page("0")
        memory.delete(copy)
        sync.truncate(memory, source, 5)  # not shared any more, and so as ever
        assert read(memory, source, 0, PAGE_SIZE) == b"00000" + bytes(PAGE_SIZE - 5)


def test_a_page_that_is_cut_in_its_own_slot_is_not_shared_meanwhile() -> None:
    with engine(frames=1, slots=1) as memory:
        source = filled(memory, 1)
        sync.swap_out(memory, source, 0, 0)
        sync.write(memory, inode(memory, 3), 0, page("o"))
        work = cutting.work_before_truncate(memory, source, 5)
        assert work is not None
        with pytest.raises(AnonfsError) as refused:
            memory.clone(source, Ino(2), lazy=True)
        assert refused.value.errno == errno.EAGAIN
        work.run()
        work.finish()
        assert read(memory, memory.clone(source, Ino(2), lazy=True), 0, 5) == b"00000"


@both_ways
def test_without_leaves_nothing_is_half_made(lazy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine(frames=64) as memory:
        source = inode(memory)
        for leaf in range(3):
            sync.write(memory, source, leaf << 21, page(str(leaf)))
        table = memory.leaves._more_owners if lazy else memory.leaves._owners
        monkeypatch.setattr(table, "rows", table.live + 3)
        with pytest.raises(AnonfsError) as refused:
            memory.clone(source, Ino(2), lazy=lazy)
        assert refused.value.errno == errno.ENOSPC
        memory.check_invariants()
        assert (len(memory.infos), memory.leaves.live) == (1, 3)


def test_a_lazy_copy_that_cannot_have_leaves_of_its_own_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with engine() as memory:
        source = filled(memory, 2)
        copy = memory.clone(source, Ino(2), lazy=True)
        monkeypatch.setattr(memory.leaves._owners, "rows", 2)
        with pytest.raises(AnonfsError):
            sync.write(memory, copy, 0, b"x")
        for size in (PAGE_SIZE, 1):
            with pytest.raises(AnonfsError):
                sync.truncate(memory, copy, size)
        memory.check_invariants()
        assert read(memory, copy, 0, 2 * PAGE_SIZE) == page("0") + page("1")
        sync.truncate(memory, copy, 0)
        assert (copy.allocated, states(source, 2)) == (0, "cc")
