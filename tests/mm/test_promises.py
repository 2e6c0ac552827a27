import errno

import pytest

from anonfs.errors import AnonfsError, InvariantError
from anonfs.mm import Promises
from tests.mm.engine import engine


def raises_enospc(promises: Promises, pages: int) -> None:
    made = promises.made
    with pytest.raises(AnonfsError) as caught:
        promises.make(pages)
    assert caught.value.errno == errno.ENOSPC
    assert promises.made == made


@pytest.mark.parametrize(
    ("frames", "slots", "capacity"),
    [(16, 1000, 760), (16, 240, 0), (16, 1, 0), (512, 1, 257), (8192, 64, 7744)],
)
def test_the_capacity_is_all_but_the_slack(frames: int, slots: int, capacity: int) -> None:
    with engine(frames=frames, slots=slots) as memory:
        assert (memory.promises.capacity, memory.promises.free) == (capacity, capacity)


def test_up_to_the_last_page_and_back() -> None:
    with engine(frames=16, slots=340) as memory:
        promises = memory.promises
        raises_enospc(promises, 101)
        promises.make(60)
        promises.make(40)
        raises_enospc(promises, 1)
        promises.make(0)
        promises.give_back(100)
        assert (promises.made, promises.free) == (0, 100)


def test_what_was_never_promised_cannot_be_given_back() -> None:
    with engine(frames=16, slots=340) as memory:
        memory.promises.make(3)
        for pages in (4, -1):
            with pytest.raises(InvariantError):
                memory.promises.give_back(pages)
        with pytest.raises(InvariantError):
            memory.promises.check_invariants(2)
        memory.promises.check_invariants(3)


def test_refusals_are_told() -> None:
    told: list[tuple[int, int]] = []
    with engine(frames=16, slots=340) as memory:
        memory.promises.on_refusal = lambda asked, left: told.append((asked, left))
        memory.promises.make(98)
        raises_enospc(memory.promises, 3)
    assert told == [(3, 2)]


def test_locked_pages_are_promised_frames_and_those_are_few() -> None:
    with engine(frames=656, slots=4000) as memory:
        promises = memory.promises
        assert promises.lockable == 100
        promises.make(150)
        promises.lock(60)
        with pytest.raises(AnonfsError) as caught:
            promises.lock(41)
        assert caught.value.errno == errno.ENOMEM
        with pytest.raises(AnonfsError) as caught:
            promises.make(41, locked=True)
        assert caught.value.errno == errno.ENOSPC
        promises.make(40, locked=True)
        promises.check_invariants(190, 100)
        promises.give_back(90, locked=True)
        promises.unlock(10)
        with pytest.raises(InvariantError):
            promises.check_invariants(100, 1)
        promises.check_invariants(100)


def test_a_small_arena_has_nothing_to_lock() -> None:
    with engine(frames=256, slots=4000) as memory:
        assert memory.promises.lockable == 0
        memory.promises.lock(0)
