import numpy as np
import pytest

from anonfs.errors import InvariantError
from anonfs.swap import MemoryStore, SwapArea
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


def test_freed_slots_come_again_after_the_rest_was_used() -> None:
    swap = area(4)
    swap.release(swap.allocate(2))
    assert swap.allocate(4).tolist() == [3, 4, 1, 2]
    swap.check_invariants()


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


def test_pages_come_back_from_scattered_slots_to_the_rows_asked_for() -> None:
    swap = area(6)
    pages = np.arange(6, dtype=np.uint8).repeat(PAGE_SIZE).reshape(6, PAGE_SIZE)
    slots = swap.allocate(6)[[5, 0, 1, 3, 2, 4]]
    swap.write_from(slots, pages.data.cast("B"))
    rows = np.array([4, 0, 1])
    found = np.full((6, PAGE_SIZE), 99, np.uint8)
    swap.read_into(slots[[1, 2, 3]], found.data.cast("B"), rows)
    assert [int(row[0]) for row in found] == [2, 3, 99, 99, 1, 99]
