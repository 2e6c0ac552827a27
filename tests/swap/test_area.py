import numpy as np
import pytest

from anonfs.errors import InvariantError
from anonfs.swap import MemoryStore, SwapArea
from anonfs.swap._slot_map import SlotMap
from anonfs.units import PAGE_SIZE


def area(slots: int) -> SwapArea:
    return SwapArea(MemoryStore(slots))


def test_slots_are_numbered_from_one_and_are_neighbours() -> None:
    swap = area(8)
    assert swap.allocate(3).tolist() == [1, 2, 3]
    assert (swap.used, swap.free) == (3, 5)
    swap.check_invariants()


def test_a_full_area_gives_what_it_has() -> None:
    swap = area(4)
    assert swap.allocate(6).tolist() == [1, 2, 3, 4]
    assert swap.allocate(1).size == 0


def test_neighbours_are_taken_before_scattered_slots() -> None:
    swap = area(2000)
    slots = swap.allocate(2000)
    swap.release(slots[::2])
    swap.release(slots[901:1001:2])
    assert swap.allocate(101).tolist() == list(range(901, 1002))
    assert (np.diff(swap.allocate(101)) == 2).all()
    swap.check_invariants()


def test_the_hand_goes_on_where_it_was_and_round() -> None:
    swap = area(1300)
    assert swap.allocate(200)[0] == 1
    swap.release(swap.allocate(200))
    assert swap.allocate(200).tolist() == list(range(401, 601))
    swap.release(np.arange(1, 201))
    swap.allocate(600)
    assert swap.allocate(300).size == 300
    assert swap.allocate(1000).size == 200
    swap.check_invariants()


def test_every_slot_is_found_however_few_are_left() -> None:
    dice = np.random.default_rng(1)
    swap = area(5000)
    held = swap.allocate(5000)
    for _ in range(50):
        dice.shuffle(held)
        count = int(dice.integers(1, 700))
        swap.release(held[:count])
        taken = [swap.allocate(int(dice.integers(1, 300))) for _ in range(count)]
        held = np.concatenate([held[count:], *taken])
        assert (swap.free, np.unique(held).size) == (0, 5000)
        swap.check_invariants()


def test_a_page_has_metadata_of_a_byte_and_little_more() -> None:
    slots = SlotMap(1 << 20)
    assert slots._all.nbytes + slots._free_in.nbytes <= (1 << 20) * 1.01


def test_a_slot_that_is_read_is_not_reused_until_its_last_reader_ends() -> None:
    swap = area(2)
    slots = swap.allocate(2)
    swap.pin(slots[:1])
    swap.pin(slots[:1])
    swap.release(slots)
    assert swap.allocate(2).tolist() == [2]
    swap.unpin(slots[:1])
    assert swap.allocate(1).size == 0
    swap.unpin(slots[:1])
    assert swap.allocate(1).tolist() == [1]
    swap.check_invariants()


def test_a_doomed_slot_needs_no_page_entry() -> None:
    swap = area(2)
    slots = swap.allocate(2)
    swap.pin(slots)
    swap.release(slots[:1])
    assert swap.in_use().tolist() == [2]


def test_freeing_twice_is_a_broken_invariant() -> None:
    swap = area(2)
    slots = swap.allocate(1)
    swap.release(slots)
    with pytest.raises(InvariantError):
        swap.release(slots)


def test_unpinning_what_was_not_pinned_is_a_broken_invariant() -> None:
    swap = area(2)
    slots = swap.allocate(2)
    swap.pin(slots[:1])
    with pytest.raises(InvariantError):
        swap.unpin(slots)


def test_pages_come_back_from_scattered_slots_to_the_rows_asked_for() -> None:
    swap = area(6)
    pages = np.arange(6, dtype=np.uint8).repeat(PAGE_SIZE).reshape(6, PAGE_SIZE)
    slots = swap.allocate(6)[[5, 0, 1, 3, 2, 4]]
    assert swap.write_from(slots, pages.data.cast("B"), np.arange(6)).done.all()
    rows = np.array([4, 0, 1])
    found = np.full((6, PAGE_SIZE), 99, np.uint8)
    assert swap.read_into(slots[[1, 2, 3]], found.data.cast("B"), rows).done.all()
    assert [int(row[0]) for row in found] == [2, 3, 99, 99, 1, 99]
