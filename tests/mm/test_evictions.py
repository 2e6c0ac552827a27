"""What happens to pages while they are on their way to swap, and how they are written."""

import errno

import numpy as np
import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo, Counters, Eviction, Memory, perform, sync
from anonfs.mm._entry import numbers
from anonfs.units import PAGE_SIZE, Ino
from tests.mm.engine import FaultyStore, engine, inode, page, read, states


def on_the_way(memory: Memory, pages: int) -> tuple[AnonInodeInfo, Eviction]:
    """An inode of so many pages, all in an eviction that has not run."""
    info = inode(memory)
    sync.write(memory, info, 0, b"".join(page(f"{number}") for number in range(pages)))
    eviction, _ = memory.work_to_swap_out(info, 0, pages - 1)
    assert eviction is not None
    return info, eviction


def frame_of(info: AnonInodeInfo, number: int) -> int:
    return int(numbers(info.entries(number, 1))[0])


@pytest.mark.parametrize(("offset", "size"), [(0, PAGE_SIZE), (10, 20), (0, 100), (4000, 4096)])
def test_a_write_to_a_page_on_its_way_takes_another_frame(offset: int, size: int) -> None:
    with engine() as memory:
        info, eviction = on_the_way(memory, 3)
        before, frames = read(memory, info, 0, 3 * PAGE_SIZE), memory.frames
        old = frame_of(info, 0)
        assert memory.frames_wanted(info, [(offset, size)]) <= 2
        sync.write(memory, info, offset, b"Z" * size)
        assert frame_of(info, 0) != old
        assert bytes(frames.view[old * PAGE_SIZE : (old + 1) * PAGE_SIZE]) == before[:PAGE_SIZE]
        memory.check_invariants()
        perform(eviction)
        expected = bytearray(before)
        expected[offset : offset + size] = b"Z" * size
        assert read(memory, info, 0, 3 * PAGE_SIZE) == expected
        assert frames.used == info.in_core


def test_frames_on_their_way_count_as_wanted() -> None:
    with engine(frames=4) as memory:
        info, eviction = on_the_way(memory, 3)
        sync.write(memory, info, 3 * PAGE_SIZE, page("3"))
        assert memory.frames_wanted(info, [(0, 4 * PAGE_SIZE)]) == 3
        eviction.abandon()
        assert memory.frames_wanted(info, [(0, 4 * PAGE_SIZE)]) == 0


def test_where_all_frames_are_on_their_way_a_write_is_told_to_come_again() -> None:
    with engine(frames=3) as memory:
        info, eviction = on_the_way(memory, 3)
        with pytest.raises(AnonfsError) as caught:
            sync.write(memory, info, 0, b"x")
        assert caught.value.errno == errno.EAGAIN
        assert memory.work_to_evict(3) is None
        assert memory.work_to_swap_out(info, 0, 2) == (None, 3)
        perform(eviction)
        sync.write(memory, info, 0, b"x")


@pytest.mark.parametrize("frames", [2, 3])
def test_a_page_on_its_way_is_cut_also_where_no_frame_is_free(frames: int) -> None:
    with engine(frames=frames) as memory:
        info, eviction = on_the_way(memory, 2)
        eviction.run()
        old = frame_of(info, 1)
        sync.truncate(memory, info, PAGE_SIZE + 5)
        assert (frame_of(info, 1) == old) == (frames == 2)
        memory.check_invariants()
        eviction.finish()
        assert states(info, 2) == "sc"
        assert read(memory, info, PAGE_SIZE, PAGE_SIZE) == page("1")[:5] + bytes(PAGE_SIZE - 5)
        assert memory.swap.used == 1


def test_a_page_of_zeros_on_its_way_that_is_cut_may_stay() -> None:
    with engine(frames=1) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, bytes(PAGE_SIZE))
        eviction = memory.work_to_evict(1)
        assert eviction is not None
        sync.truncate(memory, info, 5)
        perform(eviction)
        assert states(info, 1) == "c"


def test_evictions_may_end_in_any_order() -> None:
    with engine() as memory:
        info, first = on_the_way(memory, 4)
        sync.write(memory, info, 0, page("new") * 2)
        second, _ = memory.work_to_swap_out(info, 0, 3)
        assert second is not None
        assert second.pages == 2
        first.run()
        perform(second)
        first.finish()
        assert states(info, 4) == "ssss"
        assert read(memory, info, 0, PAGE_SIZE) == page("new")
        assert memory.swap.used == 4


def test_pages_that_are_neighbours_are_written_at_once_wherever_their_frames_are() -> None:
    store = FaultyStore(64)
    with engine(store=store) as memory:
        info = inode(memory)
        for number in (3, 0, 2, 1):
            sync.write(memory, info, number * PAGE_SIZE, page(f"{number}"))
        eviction = memory.work_to_evict(256)
        assert eviction is not None
        perform(eviction)
        assert store.writes == [(1, 4)]
        assert numbers(info.entries(0, 4)).tolist() == [1, 2, 3, 4]
        assert read(memory, info, 0, 4 * PAGE_SIZE) == b"".join(page(f"{n}") for n in range(4))


def test_as_many_are_evicted_as_are_wanted_though_frames_are_free() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") * 6)
        eviction = memory.work_to_evict(2)
        assert eviction is not None
        perform(eviction)
        assert (info.in_core, info.on_swap) == (4, 2)
        assert memory.work_to_evict(0) is None


def test_without_a_slot_only_zeros_can_go() -> None:
    with engine(slots=2) as memory:
        info = inode(memory)
        held = memory.swap.allocate(2)
        sync.write(memory, info, 0, page("a") + bytes(PAGE_SIZE) + page("c"))
        eviction = memory.work_to_evict(256)
        assert eviction is not None
        perform(eviction)
        assert states(info, 3) == "cnc"
        assert memory.work_to_evict(256) is None
        memory.swap.release(held)


def test_a_page_is_of_zeros_only_if_its_last_byte_is() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, bytes(PAGE_SIZE - 1) + b"x" + bytes(PAGE_SIZE))
        sync.swap_out(memory, info, 0, 1)
        assert states(info, 2) == "sn"
        assert read(memory, info, 0, 2 * PAGE_SIZE)[PAGE_SIZE - 1 :] == b"x" + bytes(PAGE_SIZE)


def test_what_was_done_is_counted() -> None:
    with engine() as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") * 3 + bytes(2 * PAGE_SIZE))
        sync.swap_out(memory, info, 0, 4)
        read(memory, info, 0, 5 * PAGE_SIZE)
        sync.write(memory, info, 5, b"x")
        assert memory.counters == Counters(
            fault_requests=1,
            fault_on_swap=3,
            fault_none=2,
            swapped_out=3,
            swapped_in=4,
            zero_pages=2,
            evictions=1,
        )


def test_trimmed_frames_are_used_again_and_hold_nothing_of_before() -> None:
    with engine(frames=8) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, page("a") * 8)
        sync.swap_out(memory, info, 0, 7)
        assert memory.frames.trim(6) == 6
        assert memory.frames.resident == 2
        memory.check_invariants()
        for number in range(8):
            sync.write(memory, info, (8 + number) * PAGE_SIZE + 9, b"b")
        assert memory.frames.resident == 8
        assert read(memory, info, 0, 8 * PAGE_SIZE) == page("a") * 8
        found = np.frombuffer(read(memory, info, 8 * PAGE_SIZE, 8 * PAGE_SIZE), np.uint8)
        assert np.count_nonzero(found) == 8


def test_what_was_swapped_is_told_in_runs() -> None:
    with engine(frames=256, slots=256) as memory:
        first, second = memory.create(Ino(7)), memory.create(Ino(8))
        # The leaves are allocated in no order of the pages.
        for start, count in ((512, 20), (500, 12)):
            for info in (first, second):
                data = b"".join(page(f"{number}") for number in range(start, start + count))
                sync.write(memory, info, start * PAGE_SIZE, data)
        sync.write(memory, first, 507 * PAGE_SIZE, bytes(PAGE_SIZE))
        eviction = memory.work_to_evict(256)
        assert eviction is not None
        sync.write(memory, second, 531 * PAGE_SIZE, b"x")
        perform(eviction)
        assert eviction.swapped() == [(first, 500, 7), (first, 508, 24), (second, 500, 31)]


def test_nothing_is_told_of_what_stays() -> None:
    with engine() as memory:
        _, eviction = on_the_way(memory, 3)
        eviction.abandon()
        assert eviction.swapped() == []
