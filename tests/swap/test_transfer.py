import numpy as np
import pytest

from anonfs.swap import Transfer, aligned_pages, checksums
from anonfs.swap._store import _beyond
from anonfs.swap._transfer import read_slots, write_slots
from anonfs.units import PAGE_SIZE
from tests.mm.engine import FaultyStore

SLOTS = np.array([2, 3, 4, 9, 10, 12])
ROWS = np.array([5, 6, 0, 1, 3, 4])


def rows(count: int) -> memoryview:
    pages = aligned_pages(count)
    pages[:] = np.arange(count)[:, None]
    return pages.data.cast("B")


def test_neighbouring_slots_are_written_at_once_wherever_their_pages_are() -> None:
    store = FaultyStore(16)
    transfer = write_slots(store, SLOTS, rows(8), ROWS)
    assert transfer.done.all()
    assert store.writes == [(2, 3), (9, 2), (12, 1)]
    found = aligned_pages(6)
    assert read_slots(store, SLOTS, found.data.cast("B"), np.arange(6)).done.all()
    assert found[:, 7].tolist() == ROWS.tolist()


def test_no_slots_are_no_request() -> None:
    nothing = np.empty(0, np.int64)
    transfer = write_slots(FaultyStore(1), nothing, rows(1), nothing)
    assert (transfer.done.size, transfer.error) == (0, None)


def outcome(transfer: Transfer) -> str:
    letters = np.where(transfer.done, "d", np.where(transfer.failed, "f", "-"))
    return "".join(letters.tolist())


def test_a_bad_slot_is_found_and_its_neighbours_do_not_suffer() -> None:
    store = FaultyStore(16)
    store.bad_writes, store.bad_reads = {3}, {4, 12}
    transfer = write_slots(store, SLOTS, rows(8), ROWS)
    assert outcome(transfer) == "dfdddd"
    assert str(transfer.error) == "[Errno 5] write"
    found = aligned_pages(6)
    transfer = read_slots(store, SLOTS, found.data.cast("B"), np.arange(6))
    assert outcome(transfer) == "ddfddf"
    assert found[[0, 3, 4], 0].tolist() == [5, 1, 3]


def test_a_dead_disk_is_not_asked_for_every_slot() -> None:
    store = FaultyStore(64)
    store.fail_writes = True
    transfer = write_slots(store, np.arange(1, 41), rows(40), np.arange(40))
    assert outcome(transfer) == "f" * 8 + "-" * 32
    assert len(store.writes) == 9


@pytest.mark.parametrize(
    ("done", "left"), [(0, "abcde"), (1, "bcde"), (2, "cde"), (4, "e"), (5, "")]
)
def test_what_is_left_of_buffers_after_a_short_write(done: int, left: str) -> None:
    buffers = [memoryview(b"ab"), memoryview(b"cd"), memoryview(b"e")]
    assert b"".join(_beyond(buffers, done)).decode() == left


def test_checksums_are_of_the_rows_asked_for() -> None:
    pages = aligned_pages(3)
    pages[:] = [[1], [2], [1]]
    sums = checksums(pages, np.array([2, 1, 0]))
    assert sums[0] == sums[2] != sums[1]
    assert ((sums >= 0) & (sums < 1 << 32)).all()
    pages[0, PAGE_SIZE - 1] ^= 1
    assert checksums(pages, np.array([0]))[0] != sums[0]
    assert checksums(pages, np.empty(0, np.int64)).size == 0
