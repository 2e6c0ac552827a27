"""What the engine makes of a disk that fails or gives back other bytes."""

import errno
from collections.abc import Callable

import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import BadPageError, Memory, SwapRead, cutting, perform, sync
from anonfs.mm._anon_inode_info import AnonInodeInfo
from anonfs.mm._entry import numbers
from anonfs.units import PAGE_SIZE
from tests.mm.engine import FaultyStore, engine, inode, page, read, states


def slot_of(info: AnonInodeInfo, number: int) -> int:
    return int(numbers(info.entries(number, 1))[0])


def swapped(memory: Memory, pages: int) -> AnonInodeInfo:
    """An inode with number 7 and so many pages, all on swap."""
    info = inode(memory, 7)
    sync.write(memory, info, 0, b"".join(page(f"{number:04}") for number in range(pages)))
    sync.swap_out(memory, info, 0, pages - 1)
    assert states(info, pages) == "s" * pages
    return info


def break_read(store: FaultyStore, slot: int) -> None:
    store.bad_reads.add(slot)


@pytest.mark.parametrize(
    ("spoil", "why"), [(FaultyStore.damage, "damaged"), (break_read, "unreadable")]
)
def test_a_lost_page_is_named_and_costs_nothing_but_itself(
    spoil: Callable[[FaultyStore, int], None], why: str
) -> None:
    store = FaultyStore(64)
    with engine(store=store) as memory:
        info = swapped(memory, 8)
        bad = slot_of(info, 5)
        spoil(store, bad)
        with pytest.raises(BadPageError) as caught:
            read(memory, info, 0, 8 * PAGE_SIZE)
        error = caught.value
        assert (error.errno, error.ino, error.pages, error.slots) == (errno.EIO, 7, [5], [bad])
        assert f"inode 7: {why} on swap: page 5 (slot {bad})" in str(error)
        for number in (0, 1, 2, 3, 4, 6, 7):
            assert read(memory, info, number * PAGE_SIZE, PAGE_SIZE) == page(f"{number:04}")
        with pytest.raises(BadPageError):
            sync.write(memory, info, 5 * PAGE_SIZE + 1, b"x")
        with pytest.raises(BadPageError):
            sync.truncate(memory, info, 5 * PAGE_SIZE + 1)
        assert memory.swap.read_errors + memory.swap.checksum_errors == 3
        assert (memory.swap.read_errors == 3) == (why == "unreadable")
        sync.write(memory, info, 5 * PAGE_SIZE, page("new"))
        assert read(memory, info, 5 * PAGE_SIZE, PAGE_SIZE) == page("new")


def test_unreadable_and_damaged_pages_are_told_together() -> None:
    store = FaultyStore(64)
    with engine(store=store) as memory:
        info = swapped(memory, 4)
        store.damage(slot_of(info, 1))
        store.bad_reads = {slot_of(info, 2)}
        with pytest.raises(BadPageError, match=r"unreadable or damaged on swap: page 1 .*, 2 "):
            read(memory, info, 0, 4 * PAGE_SIZE)
        assert (memory.swap.read_errors, memory.swap.checksum_errors) == (1, 1)


def test_a_page_whose_write_went_to_the_wrong_place_is_found() -> None:
    store = FaultyStore(64)
    with engine(store=store) as memory:
        info = swapped(memory, 2)
        first, second = (slot_of(info, number) - 1 for number in (0, 1))
        store._bytes[first * PAGE_SIZE : (first + 1) * PAGE_SIZE] = store._bytes[
            second * PAGE_SIZE : (second + 1) * PAGE_SIZE
        ]
        with pytest.raises(BadPageError, match="page 0"):
            read(memory, info, 0, 2 * PAGE_SIZE)


def test_a_page_whose_slot_is_bad_stays_in_core_and_goes_to_another() -> None:
    store = FaultyStore(64)
    store.bad_writes = {3}
    with engine(store=store) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, b"".join(page(f"{n}") for n in range(8)))
        eviction, _ = memory.work_to_swap_out(info, 0, 7)
        assert eviction is not None
        perform(eviction)
        assert isinstance(eviction.error, OSError)
        assert states(info, 8) == "sscsssss"
        assert (memory.swap.retired, memory.swap.write_errors, memory.swap.used) == (1, 1, 7)
        sync.swap_out(memory, info, 0, 7)
        assert states(info, 8) == "ssssssss"
        assert memory.counters.swapped_out == 8
        assert all(read(memory, info, n * PAGE_SIZE, 9) == page(f"{n}")[:9] for n in range(8))


def test_what_is_promised_shrinks_with_the_slots_and_is_never_negative() -> None:
    store = FaultyStore(512)
    store.bad_writes = {1, 2}
    with engine(frames=16, store=store) as memory:
        capacity = memory.promises.capacity
        memory.promises.make(memory.promises.free)
        info = inode(memory)
        sync.write(memory, info, 0, page("a") * 4)
        sync.swap_out(memory, info, 0, 3)
        assert memory.promises.capacity == capacity - 2
        assert memory.promises.free == 0
        with pytest.raises(AnonfsError):
            memory.promises.make(1)
        memory.promises.give_back(memory.promises.made)


def test_a_dead_disk_ends_the_search_for_frames_and_loses_nothing() -> None:
    store = FaultyStore(64)
    with engine(frames=8, store=store) as memory:
        info = inode(memory)
        sync.write(memory, info, 0, b"".join(page(f"{n}") for n in range(8)))
        store.fail_writes = True
        for _ in range(2):
            with pytest.raises(AnonfsError) as caught:
                sync.write(memory, info, 8 * PAGE_SIZE, page("8"))
            assert caught.value.errno == errno.EIO
        swap = memory.swap
        assert (swap.failing, swap.retired, swap.used, swap.free) == (True, 0, 0, 0)
        assert len(store.writes) <= 3 * 9
        assert states(info, 8) == "cccccccc"
        assert memory.work_to_evict(8) is None
        store.fail_writes = False
        swap._health._probe_at = 0
        sync.write(memory, info, 8 * PAGE_SIZE, page("8"))
        assert (swap.failing, swap.free) == (False, 63)
        assert all(read(memory, info, n * PAGE_SIZE, 9) == page(f"{n}")[:9] for n in range(9))


def full(memory: Memory, pages: int) -> tuple[AnonInodeInfo, int]:
    """An inode that fills frames and swap, and a page of it that is on swap."""
    info = inode(memory)
    for number in range(pages):
        sync.write(memory, info, number * PAGE_SIZE, page(f"{number}"))
    assert (memory.frames.free, memory.swap.free) == (0, 0)
    return info, states(info, pages).rindex("s")


def test_a_cut_takes_another_slot_where_no_frame_is_free() -> None:
    store = FaultyStore(5)
    with engine(frames=4, store=store) as memory:
        info, last = full(memory, 9)
        memory.freeing.clear(info, states(info, 9).index("s"), 1)
        before = slot_of(info, last)
        cut = cutting.work_before_truncate(memory, info, last * PAGE_SIZE + 5)
        assert cut is not None
        memory.check_invariants()
        cut.run()
        assert slot_of(info, last) == before
        assert read(memory, info, last * PAGE_SIZE, PAGE_SIZE) == page(f"{last}")
        cut.finish()
        assert slot_of(info, last) != before
        cutting.truncate(memory, info, last * PAGE_SIZE + 5, cut)
        assert read(memory, info, last * PAGE_SIZE, 10) == page(f"{last}")[:5] + bytes(5)


def test_a_cut_that_cannot_be_written_leaves_the_page_as_it_was() -> None:
    store = FaultyStore(5)
    with engine(frames=4, store=store) as memory:
        info, last = full(memory, 9)
        memory.freeing.clear(info, states(info, 9).index("s"), 1)
        store.fail_writes = True
        with pytest.raises(OSError, match="write"):
            sync.truncate(memory, info, last * PAGE_SIZE + 5)
        assert read(memory, info, last * PAGE_SIZE, PAGE_SIZE) == page(f"{last}")


def test_nothing_is_written_over_the_only_copy_while_the_disk_is_failing() -> None:
    store = FaultyStore(4)
    with engine(frames=4, store=store) as memory:
        info, last = full(memory, 8)
        store.writes.clear()
        memory.swap._health.failing = True
        with pytest.raises(AnonfsError, match="swap cannot be written"):
            sync.truncate(memory, info, last * PAGE_SIZE + 5)
        assert store.writes == []
        memory.swap._health.failing = False
        sync.truncate(memory, info, last * PAGE_SIZE + 5)
        assert len(store.writes) == 1


def test_a_cut_with_a_free_frame_writes_nothing() -> None:
    store = FaultyStore(8)
    with engine(store=store) as memory:
        info = swapped(memory, 2)
        store.writes.clear()
        sync.truncate(memory, info, PAGE_SIZE + 5)
        assert store.writes == []
        assert states(info, 2) == "sc"
        assert read(memory, info, PAGE_SIZE, 10) == page("0001")[:5] + bytes(5)


def test_a_cut_that_was_overtaken_changes_nothing() -> None:
    for frames in (1, 2):
        with engine(frames=frames, slots=8) as memory:
            info = swapped(memory, 1)
            if frames == 1:
                sync.write(memory, info, PAGE_SIZE, page("other"))
            cut = cutting.work_before_truncate(memory, info, 5)
            assert cut is not None
            memory.freeing.clear(info, 0, 1)
            perform(cut)
            assert memory.swap.used == 0
            assert states(info, 1) == "n"


def test_an_abandoned_read_gives_its_slots_back() -> None:
    store = FaultyStore(8)
    with engine(store=store) as memory:
        info = swapped(memory, 2)
        found = memory.reading.begin(info, 0, 2 * PAGE_SIZE)
        assert isinstance(found, SwapRead)
        memory.freeing.clear(info, 0)
        assert memory.swap.used == 2
        found.abandon()
        assert memory.swap.used == 0
