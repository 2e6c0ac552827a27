"""Which slots are retired, and when a whole area is given up for a while."""

import numpy as np

from anonfs.swap import SwapArea, Transfer
from tests.mm.engine import FaultyStore


class Ticking:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def settle(swap: SwapArea, count: int, outcome: str) -> None:
    """Allocate ``count`` slots of which those are written that ``outcome`` has as d, f fails."""
    slots = swap.allocate(count)
    assert slots.size == count
    letters = np.array(list(outcome.ljust(count, outcome[-1])))
    error = OSError(5, "write") if "f" in outcome else None
    swap.settle(slots, Transfer(letters == "d", letters == "f", error))
    swap.release(slots[letters != "f"])
    swap.check_invariants()


def area(slots: int = 64) -> tuple[SwapArea, Ticking]:
    clock = Ticking()
    return SwapArea(FaultyStore(slots), clock), clock


def test_a_slot_that_fails_among_others_is_retired() -> None:
    swap, _ = area(4)
    settle(swap, 4, "dfdd")
    assert (swap.retired, swap.slots, swap.free, swap.write_errors) == (1, 3, 3, 1)
    assert sorted(swap.allocate(4).tolist()) == [1, 3, 4]


def test_slots_that_fail_alone_are_retired_once_others_can_be_written() -> None:
    swap, _ = area()
    settle(swap, 4, "f")
    settle(swap, 4, "f")
    settle(swap, 4, "d")
    for _ in range(2):
        settle(swap, 4, "f")
    assert (swap.failing, swap.retired, swap.slots) == (False, 16, 48)


def test_an_area_that_fails_thrice_in_a_row_gets_its_slots_back_and_rests() -> None:
    swap, _ = area()
    for _ in range(3):
        settle(swap, 4, "f")
    assert swap.failing
    assert (swap.retired, swap.slots, swap.free, swap.write_errors) == (0, 64, 0, 12)
    assert swap.allocate(4).size == 0


def test_a_failing_area_tries_one_slot_a_second_until_one_is_written() -> None:
    swap, clock = area()
    for _ in range(3):
        settle(swap, 4, "f")
    for second in (1.0, 2.0):
        clock.seconds = second
        slots = swap.allocate(4)
        assert slots.size == 1
        assert swap.allocate(4).size == 0
        swap.settle(slots, Transfer(np.array([False]), np.array([True]), OSError(5, "write")))
    assert (swap.failing, swap.retired) == (True, 0)
    clock.seconds = 3.0
    settle(swap, 1, "d")
    assert (swap.failing, swap.free) == (False, 64)


def test_an_area_with_no_slot_left_to_doubt_is_failing() -> None:
    swap, clock = area(4)
    settle(swap, 4, "f")
    assert (swap.failing, swap.slots) == (True, 4)
    clock.seconds = 1.0
    settle(swap, 1, "d")
    assert swap.free == 4


def test_slots_that_a_dead_disk_was_not_asked_for_are_not_to_blame() -> None:
    swap, _ = area()
    settle(swap, 20, "ff-")
    assert (swap.retired, swap.free) == (2, 62)
