import errno

import pytest

from anonfs.errors import AnonfsError, InvariantError
from anonfs.mm import PageLoad, SwapRead, cutting, perform, sync
from anonfs.units import PAGE_SIZE
from tests.mm.engine import FaultyStore, engine, inode, page, read, states


def test_what_was_never_written_reads_as_zeros_and_takes_nothing() -> None:
    with engine() as memory:
        info = inode(memory)
        assert read(memory, info, 123, 3 << 20) == bytes(3 << 20)
        assert (memory.frames.used, memory.leaves.live, info.allocated) == (0, 0, 0)


def test_a_write_takes_a_frame_a_page_and_reads_back() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 100, b"x" * PAGE_SIZE)
        assert states(info, 3) == "ccn"
        assert read(memory, info, 0, 3 * PAGE_SIZE) == bytes(100) + b"x" * PAGE_SIZE + bytes(
            2 * PAGE_SIZE - 100
        )


def test_a_reused_frame_shows_nothing_of_its_last_owner() -> None:
    with engine(frames=1) as memory:
        first, second = inode(memory, 1), inode(memory, 2)
        sync.write(memory, first, 0, page("secret"))
        memory.delete(first)
        sync.write(memory, second, 10, b"y")
        assert read(memory, second, 0, PAGE_SIZE) == bytes(10) + b"y" + bytes(PAGE_SIZE - 11)


def test_neighbouring_frames_are_read_without_a_copy() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") + page("b"))
        found = memory.reading.begin(info, 0, 2 * PAGE_SIZE)
        assert isinstance(found, memoryview)
        assert found.obj is memory.frames.view.obj


def test_when_frames_run_out_cold_pages_go_to_swap_and_come_back() -> None:
    with engine(frames=4, slots=64) as memory:
        info = inode(memory)
        for number in range(20):
            sync.write(memory, info, number * PAGE_SIZE, page(f"{number:04}"))
        assert (info.in_core, info.on_swap) == (4, 16) or info.in_core < 4
        for number in range(20):
            assert read(memory, info, number * PAGE_SIZE, PAGE_SIZE) == page(f"{number:04}")
        assert info.allocated == 20


def test_reading_takes_no_frame_and_leaves_pages_on_swap() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") + page("b") + page("c"))
        sync.swap_out(memory, info, 0, 1)
        assert states(info, 3) == "ssc"
        assert read(memory, info, 5, 3 * PAGE_SIZE - 5) == (page("a") + page("b") + page("c"))[5:]
        assert states(info, 3) == "ssc"
        assert memory.frames.used == 1


def test_a_whole_page_written_over_one_on_swap_frees_the_slot() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a"))
        sync.swap_out(memory, info, 0, 0)
        sync.write(memory, info, 0, page("b"))
        assert memory.swap.used == 0
        assert read(memory, info, 0, PAGE_SIZE) == page("b")


@pytest.mark.parametrize(("offset", "size"), [(10, 20), (0, 100), (4000, 96), (4000, 5000)])
def test_a_part_of_a_page_on_swap_is_written_into_the_rest_of_it(offset: int, size: int) -> None:
    with engine() as memory:
        info = inode(memory)
        expected = bytearray(page("a") + page("b") + page("c"))
        sync.write(memory, info, 0, bytes(expected))
        sync.swap_out(memory, info, 0, 2)
        sync.write(memory, info, offset, b"Z" * size)
        expected[offset : offset + size] = b"Z" * size
        assert read(memory, info, 0, len(expected)) == expected


def test_a_page_of_zeros_takes_no_slot() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") + bytes(PAGE_SIZE) + page("c"))
        sync.swap_out(memory, info, 0, 2)
        assert states(info, 3) == "sns"
        assert memory.swap.used == 2


def test_a_leaf_of_pages_that_are_all_zeros_is_given_back() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, bytes(2 * PAGE_SIZE))
        sync.swap_out(memory, info, 0, 1)
        assert (info.leaves, memory.leaves.live) == ({}, 0)


def test_truncation_clears_the_rest_of_the_last_page_in_core_and_on_swap() -> None:
    for swapped in (False, True):
        with engine() as memory:
            info = inode(memory)
            sync.write(memory, info, 0, page("a") + page("b") + page("c"))
            if swapped:
                sync.swap_out(memory, info, 0, 2)
            sync.truncate(memory, info, PAGE_SIZE + 10)
            expected = page("a") + page("b")[:10] + bytes(2 * PAGE_SIZE - 10)
            assert read(memory, info, 0, 3 * PAGE_SIZE) == expected
            assert info.allocated == 2


def test_cutting_a_page_on_swap_without_loading_it_is_a_broken_invariant() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a"))
        sync.swap_out(memory, info, 0, 0)
        with pytest.raises(InvariantError):
            cutting.truncate(memory, info, 10)


def test_pages_of_several_leaves_and_inodes_keep_apart() -> None:
    with engine(frames=8, slots=2000) as memory:
        infos = [inode(memory, number) for number in (1, 2, 3)]
        far = 5_000_000 * PAGE_SIZE
        for number, info in enumerate(infos):
            for offset in (511 * PAGE_SIZE, far):
                sync.write(memory, info, offset, page(f"{number}a") + page(f"{number}b"))
        for number, info in enumerate(infos):
            assert len(info.leaves) == 3
            for offset in (511 * PAGE_SIZE, far):
                found = read(memory, info, offset, 2 * PAGE_SIZE)
                assert found == page(f"{number}a") + page(f"{number}b")
        memory.delete(infos[1])
        memory.check_invariants()
        assert read(memory, infos[2], far, PAGE_SIZE) == page("2a")


def test_a_full_engine_can_still_cut_within_a_page_on_swap() -> None:
    with engine(frames=4, slots=4) as memory:
        info = inode(memory)
        for number in range(8):
            sync.write(memory, info, number * PAGE_SIZE, page(f"{number}"))
        last = states(info, 8).rindex("s")
        sync.truncate(memory, info, last * PAGE_SIZE + 5)
        assert read(memory, info, last * PAGE_SIZE, 10) == page(f"{last}")[:5] + bytes(5)


def test_full_means_enospc_and_changes_nothing() -> None:
    with engine(frames=4, slots=4) as memory:
        info = inode(memory)
        for number in range(8):
            sync.write(memory, info, number * PAGE_SIZE, page(f"{number}"))
        with pytest.raises(AnonfsError) as caught:
            sync.write(memory, info, 8 * PAGE_SIZE, page("8"))
        assert caught.value.errno == errno.ENOSPC
        assert (info.allocated, memory.frames.used, memory.swap.used) == (8, 4, 4)
        sync.truncate(memory, info, PAGE_SIZE)
        sync.write(memory, info, 8 * PAGE_SIZE, page("8"))


def test_a_swap_out_on_request_with_swap_full_is_enospc() -> None:
    with engine(frames=4, slots=1) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") + page("b"))
        with pytest.raises(AnonfsError) as caught:
            sync.swap_out(memory, info, 0, 1)
        assert caught.value.errno == errno.ENOSPC
        assert states(info, 2) == "sc"


# -- what happens while the I/O of a piece of work is under way --------------------------------


def test_a_page_written_while_its_copy_goes_to_swap_stays_in_core() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") + page("b"))
        eviction, _ = memory.work_to_swap_out(info, 0, 1)
        assert eviction is not None
        sync.write(memory, info, 0, b"new")
        memory.check_invariants()
        perform(eviction)
        assert states(info, 2) == "cs"
        assert read(memory, info, 0, 3) == b"new"
        assert memory.swap.used == 1


def test_a_page_freed_while_its_copy_goes_to_swap_keeps_its_frame_until_then() -> None:
    with engine(frames=2) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") + page("b"))
        eviction, _ = memory.work_to_swap_out(info, 0, 1)
        assert eviction is not None
        memory.freeing.clear(info, 0)
        assert memory.frames.free == 0
        memory.check_invariants()
        perform(eviction)
        assert (memory.frames.free, memory.swap.used) == (2, 0)


def test_a_failed_write_to_swap_leaves_every_page_in_core() -> None:
    store = FaultyStore(8)
    with engine(store=store) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a"))
        store.fail_writes = True
        with pytest.raises(AnonfsError, match="swap cannot be written"):
            sync.swap_out(memory, info, 0, 0)
        assert (states(info, 1), memory.swap.used) == ("c", 0)
        assert read(memory, info, 0, PAGE_SIZE) == page("a")


def test_a_failed_read_from_swap_loses_nothing() -> None:
    store = FaultyStore(8)
    with engine(store=store) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a"))
        sync.swap_out(memory, info, 0, 0)
        store.fail_reads = True
        with pytest.raises(OSError, match="read"):
            read(memory, info, 0, 10)
        with pytest.raises(OSError, match="read"):
            sync.write(memory, info, 1, b"x")
        store.fail_reads = False
        assert read(memory, info, 0, PAGE_SIZE) == page("a")


def test_a_reader_gets_the_old_bytes_though_the_slot_was_freed_meanwhile() -> None:
    with engine(frames=4, slots=1) as memory:
        info, other = inode(memory, 1), inode(memory, 2)
        sync.write(memory, info, 0, page("old"))
        sync.swap_out(memory, info, 0, 0)
        reading = memory.reading.begin(info, 0, PAGE_SIZE)
        assert isinstance(reading, SwapRead)
        memory.freeing.clear(info, 0)
        sync.write(memory, other, 0, page("other"))
        with pytest.raises(AnonfsError):  # the one slot is not free yet
            sync.swap_out(memory, other, 0, 0)
        perform(reading)
        assert bytes(reading.data) == page("old")
        sync.swap_out(memory, other, 0, 0)


def test_a_page_that_came_in_another_way_is_not_overwritten_by_a_load() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a"))
        sync.swap_out(memory, info, 0, 0)
        load = memory.work_to_complete(info, [(1, 1)])
        assert isinstance(load, PageLoad)
        sync.write(memory, info, 0, page("b"))
        perform(load)
        assert read(memory, info, 0, PAGE_SIZE) == page("b")


def test_a_load_without_a_free_frame_leaves_the_page_on_swap() -> None:
    with engine(frames=1) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a"))
        sync.swap_out(memory, info, 0, 0)
        load = memory.work_to_complete(info, [(1, 1)])
        assert load is not None
        sync.write(memory, info, PAGE_SIZE, page("b"))
        perform(load)
        assert states(info, 2) == "sc"


def test_the_clock_passes_over_what_was_used_since_it_last_came() -> None:
    with engine(frames=4) as memory:
        info = inode(memory)
        for number in range(4):
            sync.write(memory, info, number * PAGE_SIZE, page(f"{number}"))
        memory.frames.cool(slice(None))
        read(memory, info, 0, 2 * PAGE_SIZE)
        assert sorted(memory._clock.pick(2).tolist()) == [3, 4]
