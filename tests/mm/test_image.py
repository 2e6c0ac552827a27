import os

import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import BlobStore, NameTable, perform
from anonfs.mm._frames import FrameArena
from anonfs.mm._memfd import RecordTable
from anonfs.units import PAGE_SIZE


def test_names_are_found_by_a_walk_over_the_image() -> None:
    names = NameTable()
    row = names.add(1, b"a" * 255, 7)
    other = names.add(7, b"\xff.\n", 8)
    names.point(row, 9)
    assert names.walk() == [(row, 1, b"a" * 255, 9), (other, 7, b"\xff.\n", 8)]
    names.remove(row)
    assert names.walk() == [(other, 7, b"\xff.\n", 8)]
    assert names.add(2, b"b", 3) == row
    names.close()


@pytest.mark.parametrize("size", [0, 1, 496, 497, 5000, 1 << 20])
def test_blobs_come_back_and_give_their_chunks_back(size: int) -> None:
    blobs = BlobStore()
    data = os.urandom(size)
    blob = blobs.put(data)
    assert blobs.get(blob) == data
    blobs.drop(blob)
    assert blobs.chunks == 0
    blobs.close()


def test_a_full_table_says_so_and_a_released_row_is_clear() -> None:
    table = RecordTable("test", 2, 3, 28)
    rows = [table.allocate(), table.allocate()]
    for row in rows:
        table.words[row * 2] = row
        table.words[row * 2 + 1] = 99
    with pytest.raises(AnonfsError) as caught:
        table.allocate()
    assert caught.value.errno == 28
    table.release(rows[0])
    assert table.live_rows() == [rows[1]]
    assert table.allocate() == rows[0]
    assert table.words[rows[0] * 2 + 1] == 0
    table.close()


def test_frames_leave_the_arena_as_ascending_neighbours_also_after_reuse() -> None:
    arena = FrameArena(8)
    frames = arena.allocate(8)
    arena.owner[frames] = 1
    assert frames.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    arena.release(frames[2:6][::-1])
    assert arena.allocate(3).tolist() == [3, 4, 5]
    arena.close()


def populate(arena: FrameArena) -> int:
    steps = 0
    while (step := arena.population.step()) is not None:
        perform(step)
        steps += 1
    return steps


def kept_by_system(arena: FrameArena) -> int:
    """Frames that the kernel has memory for, the page of zeros included."""
    return os.fstat(arena._file.fd).st_blocks * 512 // PAGE_SIZE


def test_populating_allocates_the_memory_without_changing_it() -> None:
    arena = FrameArena(512)
    arena.view[PAGE_SIZE] = 7
    assert populate(arena) == 1
    assert kept_by_system(arena) == 513
    assert arena.view[PAGE_SIZE] == 7
    assert (arena.resident, arena.free) == (512, 512)
    assert arena.allocate(3).tolist() == [1, 2, 3]
    arena.close()


def test_populating_goes_by_steps_that_others_may_come_between() -> None:
    arena = FrameArena(20000)
    step = arena.population.step()
    assert step is not None
    assert arena.population.step() is None
    taken = arena.allocate(2)
    arena.owner[taken] = 1
    perform(step)
    arena.release(taken[:1])
    assert populate(arena) == 2
    assert (arena.resident, arena.free) == (20000, 19999)
    arena.owner[taken] = [0, 1]
    arena.check_invariants()
    arena.close()


def test_a_population_that_fails_is_the_end_of_it() -> None:
    arena = FrameArena(20000)
    step = arena.population.step()
    assert step is not None
    step.abandon()
    assert arena.population.step() is None
    assert arena.resident == 0
    arena.close()


def test_frames_have_memory_from_their_first_use_until_they_are_trimmed() -> None:
    arena = FrameArena(16)
    frames = arena.allocate(10)
    arena.owner[frames] = 1
    arena.pages[frames] = 1
    assert arena.resident == kept_by_system(arena) == 10
    arena.release(frames[2:])
    assert arena.trim(5) == 5
    assert arena.resident == kept_by_system(arena) == 5
    assert arena.trim(5) == 3
    assert arena.trim(5) == 0
    assert arena.resident == kept_by_system(arena) == 2
    assert (arena.pages[1:3] == 1).all()
    arena.check_invariants()
    arena.close()


def test_frames_that_have_memory_are_taken_first_and_neighbours_stay_neighbours() -> None:
    arena = FrameArena(8)
    frames = arena.allocate(4)
    arena.owner[frames] = 1
    arena.release(frames[:2])
    arena.release(frames[2:])
    assert arena.trim(1) == 1  # of those freed first
    assert arena.allocate(8).tolist() == [3, 4, 1, 2, 5, 6, 7, 8]
    arena.close()


def test_trimming_and_populating_do_not_work_against_each_other() -> None:
    arena = FrameArena(20000)
    frames = arena.allocate(4)
    arena.owner[frames] = 1
    arena.release(frames)
    step = arena.population.step()
    assert step is not None
    assert arena.trim(4) == 0
    perform(step)
    assert arena.trim(1 << 30) == arena.population._next - 1
    assert arena.population.step() is None
    assert arena.resident == 0
    assert kept_by_system(arena) <= 1
    arena.check_invariants()
    arena.close()
