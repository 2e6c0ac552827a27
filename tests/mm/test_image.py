import os

import pytest

from anonfs.errors import AnonfsError
from anonfs.mm import BlobStore, NameTable
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


def test_populating_allocates_the_memory_without_changing_it() -> None:
    arena = FrameArena(512)
    arena.view[PAGE_SIZE] = 7
    arena.populate()
    assert os.fstat(arena._file.fd).st_blocks * 512 >= 512 * PAGE_SIZE
    assert arena.view[PAGE_SIZE] == 7
    arena.close()
