"""Reclaim over fakes: a kernel that writes back what is dirty, and drops what it is told to."""

import errno
from collections.abc import Callable, Iterator

import pytest

from anonfs.errors import AnonfsError, InvariantError
from anonfs.mm import AnonInodeInfo
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, Inode
from tests.daemon.paged import Paged, in_thread, soon
from tests.mm.engine import FaultyStore, page, read, states

BUDGET = 3200  # it begins at 3100, goes down to 3000, and holds back from 3300; staging is 400
FRAMES = 1600


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(8192)


def closed(paged: Paged) -> Iterator[Paged]:
    """To have it checked at the end. Its threads sleep for ever then, as there is room."""
    yield paged
    paged.check()
    with paged.lock:
        paged.budget.start = paged.budget.target = paged.budget.high = 1 << 30
        paged.reclaim._reclaiming = False
        paged.reclaim._low = 0


@pytest.fixture
def failing(store: FaultyStore) -> Iterator[Paged]:
    """One that may fail; its test checks it."""
    yield from closed(Paged(FRAMES, budget=BUDGET, store=store))


@pytest.fixture
def paged(failing: Paged) -> Iterator[Paged]:
    yield failing
    assert failing.failing.failures == 0


@pytest.fixture
def sparse(store: FaultyStore) -> Iterator[Paged]:
    paged = Paged(FRAMES, budget=BUDGET, store=store, overcommit=True)
    yield from closed(paged)
    assert paged.failing.failures == 0


def info_of(inode: Inode) -> AnonInodeInfo:
    assert inode.info is not None
    return inode.info


def load(paged: Paged, inode: Inode, first: int, count: int, *, dirty: bool = False) -> None:
    """READs of pages, which are then written to if ``dirty``, as by a store to a mapping."""
    for at in range(first, first + count, 256):
        pages = min(256, first + count - at)
        assert len(paged.read(inode.ino, at * PAGE_SIZE, pages * PAGE_SIZE)) == pages * PAGE_SIZE
        if dirty:
            for number in range(at, at + pages):
                paged.unloading.dirty[inode.ino, number] = page(f"{number:04}")


def eventually(paged: Paged, holds: Callable[[], bool], what: str = "it did not happen") -> None:
    def locked() -> bool:
        with paged.lock:
            return holds()

    soon(locked, what)


def rests(paged: Paged) -> Callable[[], bool]:
    """Whether cost is where it is to be, and nothing is on its way to bring it further down."""
    return lambda: paged.budget.excess <= 0 and not paged.reclaim._reclaiming


# -- unloading -----------------------------------------------------------------------------


def test_cost_comes_down_to_the_target(paged: Paged) -> None:
    inode = paged.file(pages=4000)
    paged.reclaim.start()
    load(paged, inode, 0, 3101)
    eventually(paged, rests(paged))
    assert paged.memory.loaded.pages >= paged.budget.target - 512, "and not much further"
    assert paged.unloading.dropped[0] == (inode.ino, [(0, 512)])


def test_what_is_dirty_goes_to_swap_on_its_way(paged: Paged, store: FaultyStore) -> None:
    inode = paged.file(pages=4000)
    paged.reclaim.start()
    load(paged, inode, 0, 4000, dirty=True)
    eventually(paged, rests(paged))
    assert store.writes
    written = set(range(4000)) - {number for _, number in paged.unloading.dirty}
    assert written
    for number in sorted(written):
        with paged.lock:
            found = read(paged.memory, info_of(inode), number * PAGE_SIZE, PAGE_SIZE)
        assert found == page(f"{number:04}")


def test_a_page_that_was_written_back_to_be_dropped_is_gone(paged: Paged) -> None:
    """Otherwise the hand would have to come twice to what is dirty, and drop all of it."""
    inode = paged.file(pages=4000)
    load(paged, inode, 0, 3050, dirty=True)
    paged.reclaim.start()
    load(paged, inode, 3050, 51)
    eventually(paged, rests(paged))
    assert paged.memory.loaded.unloaded == sum(
        count for _, runs in paged.unloading.dropped for _, count in runs
    )
    assert paged.memory.loaded.pages > 1000


def test_nothing_is_reclaimed_while_there_is_room(paged: Paged, store: FaultyStore) -> None:
    inode = paged.file(pages=4000)
    paged.reclaim.start()
    paged.write(inode.ino, 0, page("a") * 1024)
    paged.write(inode.ino, 1024 * PAGE_SIZE, page("a") * 256)
    assert paged.budget.cost == 2 * 1280
    load(paged, inode, 1280, 3100 - 2560)
    assert not paged.budget.is_short
    _settle(paged)
    assert (paged.unloading.dropped, store.writes) == ([], [])
    assert paged.memory.frames.resident == 1280


def _settle(paged: Paged) -> None:
    """Wait until the unloading thread has looked, and waits for something else."""
    before = paged.files.closings
    with paged.lock:
        paged.reclaim._unload_wanted.notify_all()
    soon(lambda: paged.files.closings > before)


def test_free_frames_go_first(paged: Paged, store: FaultyStore) -> None:
    inode = paged.file(pages=4000)
    paged.write(inode.ino, 0, page("a") * 1024)
    paged.reclaim.swap_out(inode, 0, 1023)
    assert paged.memory.frames.resident == 1024
    store.writes.clear()
    paged.unloading.dropped.clear()
    load(paged, inode, 1024, 3101 - 1024)
    assert paged.budget.is_over
    paged.reclaim.start()
    eventually(paged, lambda: paged.budget.excess <= 0)
    assert (paged.unloading.dropped, store.writes) == ([], [])


def test_no_frame_goes_to_swap_once_there_is_room(paged: Paged, store: FaultyStore) -> None:
    """Free frames were given up, and that was enough."""
    inode = paged.file(pages=4000)
    paged.write(inode.ino, 0, page("a") * 1200)
    paged.reclaim.swap_out(inode, 0, 499)
    load(paged, inode, 1200, 3101 - 1200 - 700)
    store.writes.clear()
    with paged.lock:
        assert paged.budget.is_over
        assert paged.reclaim._next_victim() is None
        assert paged.budget.excess <= 0
        assert paged.reclaim._frames_to_swap() <= 0


def test_frames_go_to_swap_and_then_to_the_system(paged: Paged, store: FaultyStore) -> None:
    """Where whatever is loaded is wanted just now."""
    inode = paged.file(pages=4000)
    for at in range(0, 1500, 250):
        paged.write(inode.ino, at * PAGE_SIZE, page("a") * 250)
    load(paged, inode, 1500, 400)
    paged.memory.loaded.hold(info_of(inode), 0, 1900, 1)
    paged.reclaim.start()
    eventually(paged, lambda: paged.budget.excess <= 0)
    assert store.writes
    assert paged.unloading.dropped == []
    with paged.lock:
        paged.memory.loaded.hold(info_of(inode), 0, 1900, -1)
    assert paged.read(inode.ino, 0, PAGE_SIZE) == page("a")


def test_frames_are_kept_free(paged: Paged) -> None:
    inode = paged.file(pages=4000)
    paged.reclaim.start()
    for at in range(0, FRAMES, 100):
        paged.write(inode.ino, at * PAGE_SIZE, page("a") * 100)
    eventually(paged, lambda: paged.memory.frames.free >= FRAMES // 32)


def test_the_promises_of_holes_are_taken_back(sparse: Paged) -> None:
    inode = sparse.file(pages=1 << 20)
    sparse.reclaim.start()
    load(sparse, inode, 0, 3101)
    assert sparse.memory.promises.made <= 3101
    eventually(sparse, lambda: sparse.budget.excess <= 0)
    eventually(sparse, lambda: sparse.memory.promises.made == sparse.memory.loaded.pages)
    sparse.reclaim.swap_out(inode, 0, (1 << 20) - 1)
    assert sparse.memory.promises.made == sparse.memory.loaded.pages == 0


def test_what_was_dirtied_keeps_its_promise(sparse: Paged) -> None:
    inode = sparse.file(pages=1 << 20)
    load(sparse, inode, 0, 10, dirty=True)
    load(sparse, inode, 10, 10)
    sparse.reclaim.swap_out(inode, 0, 100)
    assert inode.promised == inode.allocated == 10


@pytest.mark.parametrize("error", [AnonfsError(errno.EIO), OSError(errno.ENOTCONN, "gone")])
def test_what_could_not_be_dropped_is_still_loaded(
    sparse: Paged, error: OSError, caplog: pytest.LogCaptureFixture
) -> None:
    inode = sparse.file(pages=1 << 20)
    load(sparse, inode, 0, 3101)
    sparse.unloading.error = error
    sparse.reclaim.start()
    soon(lambda: "reclaim: " in caplog.text)
    with sparse.lock:
        assert sparse.memory.loaded.pages == inode.promised == 3101
    with pytest.raises(OSError, match=str(error.strerror)):
        sparse.reclaim.swap_out(inode, 0, 9)
    assert sparse.memory.loaded.pages == inode.promised == 3101
    sparse.unloading.error = None
    eventually(sparse, lambda: sparse.budget.excess <= 0, "the hand comes again")


def test_a_file_that_goes_while_it_is_unloaded(sparse: Paged) -> None:
    inode = sparse.file(pages=1 << 20)
    load(sparse, inode, 0, 3101)
    sparse.unloading.gate.clear()
    sparse.reclaim.start()
    assert sparse.unloading.entered.acquire(timeout=10)
    with sparse.lock:
        sparse.filesystem.unlink(ROOT, b"f")
        again = sparse.file(b"again", pages=1000)
        assert again.ino == inode.ino
    load(sparse, again, 0, 100)
    sparse.unloading.gate.set()
    eventually(sparse, lambda: not sparse.reclaim._reclaiming)
    assert (sparse.memory.loaded.pages, again.promised) == (100, 100)


# -- swapping out on request ---------------------------------------------------------------


def test_a_range_is_swapped_out(paged: Paged, store: FaultyStore) -> None:
    inode = paged.file(pages=20)
    load(paged, inode, 0, 20, dirty=True)
    paged.reclaim.swap_out(inode, 5, 9)
    assert paged.unloading.dropped == [(inode.ino, [(5, 5)])]
    assert states(info_of(inode), 20) == "n" * 5 + "s" * 5 + "n" * 10
    assert paged.memory.loaded.pages == 15
    assert sum(pages for _, pages in store.writes) == 5
    paged.reclaim.swap_out(inode, 0, 19)
    assert states(info_of(inode), 20) == "s" * 20


def test_what_is_in_the_way_of_a_swap_out(paged: Paged) -> None:
    taken = paged.memory.swap.allocate(paged.memory.swap.free)
    inode = paged.file(pages=20)
    paged.write(inode.ino, 0, page("a") * 20)
    with pytest.raises(AnonfsError) as caught:
        paged.reclaim.swap_out(inode, 0, 19)
    assert caught.value.errno == errno.ENOSPC
    paged.memory.swap.release(taken)


def test_a_store_that_fails(
    paged: Paged, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    inode = paged.file(pages=1)
    paged.write(inode.ino, 0, page("a"))
    store.fail_writes = True
    with pytest.raises(AnonfsError) as caught:
        paged.reclaim.swap_out(inode, 0, 0)
    assert caught.value.errno == errno.EIO
    assert "swap cannot be written everywhere" in caplog.text
    assert states(info_of(inode), 1) == "c"


def test_files_that_a_swap_out_opened_are_closed(paged: Paged) -> None:
    """They keep the mount alive: an umount would be the end of nothing."""
    inode = paged.file(pages=1)
    paged.reclaim.start()
    _settle(paged)
    paged.reclaim.swap_out(inode, 0, 0)
    soon(lambda: not paged.files.any_open, "a file stays open")


def test_files_are_closed_while_reclaim_is_busy(paged: Paged) -> None:
    """One of them may be the last user of a file that was deleted to make room."""
    inode = paged.file(pages=4000)
    paged.reclaim.start()

    def load_more(_ino: int, runs: list[tuple[int, int]]) -> None:
        first, count = runs[0]
        with paged.lock:
            paged.memory.loaded.load(info_of(inode), first, count)

    paged.unloading.before = load_more  # so that there is no end to it
    load(paged, inode, 0, 3101)
    soon(lambda: len(paged.unloading.dropped) > 3)
    before = paged.files.closings
    soon(lambda: paged.files.closings > before, "it has no time for it")
    paged.unloading.before = lambda _ino, _runs: None
    eventually(paged, lambda: paged.budget.excess <= 0)


def test_write_backs_of_a_swap_out_do_not_wait_for_the_unloading_thread(
    paged: Paged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one waits for the swap-out to end."""
    monkeypatch.setattr("anonfsd._paging._HOLD_SECONDS", 1000.0)
    inode = paged.file(pages=4000)
    load(paged, inode, 0, 3000, dirty=True)
    paged.reclaim.start()
    swapping = in_thread(paged.reclaim.swap_out, inode, 0, 2999)
    swapping()
    assert states(info_of(inode), 3000) == "s" * 3000


def test_a_write_that_is_held_back_wakes_the_swapping_threads(
    paged: Paged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anonfsd._paging._HOLD_SECONDS", 1000.0)
    inode = paged.file(pages=4000)
    for at in range(0, 1000, 250):
        paged.write(inode.ino, at * PAGE_SIZE, page("a") * 250)
    paged.reclaim.start()
    with paged.reclaim.alone(info_of(inode)):
        with paged.lock:
            paged.memory.loaded.load(info_of(inode), 1000, 1400)
            assert paged.reclaim.is_behind
        writing = in_thread(paged.write, inode.ino, 0, page("b"))
        assert writing() == PAGE_SIZE


# -- what goes wrong -----------------------------------------------------------------------


def test_a_broken_invariant_ends_the_mount(
    failing: Paged, caplog: pytest.LogCaptureFixture
) -> None:
    inode = failing.file(pages=4000)
    failing.unloading.error = InvariantError("miscounted")
    load(failing, inode, 0, 3101)
    failing.reclaim.start()
    soon(lambda: failing.failing.failures > 0)
    assert "the state is broken" in caplog.text
    assert failing.read(inode.ino, 0, PAGE_SIZE) == "EIO"


def test_an_error_that_nobody_foresaw_ends_the_mount(
    failing: Paged, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that is gone would be missed by everybody."""

    def fail(_wanted: int) -> None:
        raise ValueError("odd")

    inode = failing.file(pages=4000)
    monkeypatch.setattr(failing.memory, "work_to_evict", fail)
    failing.reclaim.start()
    for at in range(0, FRAMES, 100):
        failing.write(inode.ino, at * PAGE_SIZE, page("a") * 100)
    soon(lambda: failing.failing.failures > 0)
    assert "odd" in caplog.text


def test_nobody_but_us_has_a_file_any_more(paged: Paged) -> None:
    inode, filesystem = paged.file(), paged.filesystem
    with paged.lock:
        filesystem.open(inode)
        filesystem.remember(inode)
        filesystem.unlink(ROOT, b"f")
        assert paged.files.forgotten == []
        filesystem.release(inode)
    assert paged.files.forgotten == [inode.ino]
