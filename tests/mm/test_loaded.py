"""Loaded pages against plain sets, and what the hand takes."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anonfs.mm import AnonInodeInfo, LoadedPages, Memory, Unload, sync
from anonfs.units import PAGE_SIZE
from tests.mm.engine import engine, inode, page

CHUNK = 512


@pytest.fixture
def memory() -> Iterator[Memory]:
    with engine(frames=64) as memory:
        yield memory


@pytest.fixture
def loaded(memory: Memory) -> LoadedPages:
    return memory.loaded


@pytest.fixture
def info(memory: Memory) -> AnonInodeInfo:
    return inode(memory)


def covered(unload: Unload) -> set[int]:
    return {first + at for first, count in unload.runs for at in range(count)}


def pages_of(loaded: LoadedPages, info: AnonInodeInfo) -> set[int]:
    return {first + int(at) for first, which in loaded.of(info) for at in np.flatnonzero(which)}


def begin(loaded: LoadedPages, wanted: int) -> Unload:
    unload = loaded.begin(wanted)
    assert unload is not None
    return unload


def drop_all(loaded: LoadedPages) -> None:
    while (unload := loaded.begin(1 << 20)) is not None:
        loaded.end(unload)


# -- loading -------------------------------------------------------------------------------


def test_a_page_is_counted_once(loaded: LoadedPages, info: AnonInodeInfo) -> None:
    loaded.load(info, 500, 20)
    loaded.load(info, 510, 20)
    assert loaded.pages == sum(int(mask.sum()) for _, mask in loaded.of(info)) == 30
    assert pages_of(loaded, info) == set(range(500, 530))
    assert loaded.mask(info, 495, 10).tolist() == [False] * 5 + [True] * 5
    assert loaded.mask(info, 1 << 40, 3).tolist() == [False] * 3


def test_what_is_cut_off_is_not_loaded(loaded: LoadedPages, info: AnonInodeInfo) -> None:
    loaded.load(info, 0, 1100)
    loaded.drop(info, 513)
    assert pages_of(loaded, info) == set(range(513))
    loaded.drop(info, 513)
    loaded.drop(info, 5)
    loaded.drop(info)
    assert loaded.pages == 0


def test_pages_that_are_on_swap_as_well(
    memory: Memory, loaded: LoadedPages, info: AnonInodeInfo
) -> None:
    sync.write(memory, info, 0, page("a") * 6)
    sync.swap_out(memory, info, 0, 3)
    loaded.load(info, 2, 20)
    assert loaded.on_swap == 2


# -- unloading -----------------------------------------------------------------------------


def test_nothing_is_loaded(loaded: LoadedPages, info: AnonInodeInfo) -> None:
    assert loaded.begin(5) is None
    unload = loaded.begin_range(info, 3, 4)
    assert (unload.runs, unload.pages) == ([(3, 4)], 0)
    assert loaded.end(unload) == 0


def test_the_hand_passes_over_what_others_unload(loaded: LoadedPages, memory: Memory) -> None:
    first, second = inode(memory, 1), inode(memory, 2)
    for info in (first, second):
        loaded.load(info, 0, 3)
    loaded.alone.add(first)
    ranged = loaded.begin_range(first, 1, 1)
    assert loaded.at_hand is second
    unload = begin(loaded, 10)
    assert (unload.info, unload.pages) == (second, 3)
    assert loaded.is_unloading(first, 0, 2)
    assert loaded.end(unload) == 3
    assert loaded.is_unloading(first, 1, 5)
    assert loaded.begin(10) is None
    assert loaded.end(ranged) == 1
    loaded.load(second, 0, 1)
    rest = loaded.begin(10, first)
    assert rest is not None, "whoever put it there comes to it"
    assert (rest.info, rest.pages) == (first, 2)
    loaded.end(rest)
    loaded.alone.clear()


def test_the_first_to_be_loaded_goes_first(loaded: LoadedPages, memory: Memory) -> None:
    first, second = inode(memory, 1), inode(memory, 2)
    loaded.load(second, 0, 3)
    loaded.load(first, 0, 3)
    loaded.load(second, 4, 2)
    unload = begin(loaded, 1)
    assert (unload.info, unload.pages) == (second, 5)
    assert loaded.end(unload) == 5
    assert begin(loaded, 1).info is first


def test_as_many_as_are_wanted_of_one_inode(loaded: LoadedPages, memory: Memory) -> None:
    first, second = inode(memory, 1), inode(memory, 2)
    loaded.load(first, 0, 3 * CHUNK)
    loaded.load(second, 0, CHUNK)
    unload = begin(loaded, CHUNK + 1)
    assert (unload.runs, unload.pages) == ([(0, 2 * CHUNK)], 2 * CHUNK)
    loaded.end(unload)
    assert (begin(loaded, 10 * CHUNK).runs, loaded.pages) == ([(2 * CHUNK, CHUNK)], 2 * CHUNK)


def test_a_page_that_comes_back_is_passed_over_once(
    loaded: LoadedPages, info: AnonInodeInfo
) -> None:
    loaded.load(info, 0, 8)
    loaded.end(begin(loaded, 8))
    loaded.load(info, 2, 2)
    loaded.load(info, 6, 1, touched=False)
    loaded.load(info, 10, 1)
    assert loaded.refaulted == 2
    unload = begin(loaded, 1)
    assert covered(unload) == {*range(CHUNK)} - {2, 3}, "runs leave out what is kept alone"
    loaded.end(unload)
    assert pages_of(loaded, info) == {2, 3}
    unload = begin(loaded, 1)
    assert unload.pages == 2, "once"
    loaded.end(unload)
    assert loaded.pages == 0


def test_what_is_wanted_is_found_behind_what_is_active(
    loaded: LoadedPages, info: AnonInodeInfo
) -> None:
    """All of it came back: in its second round the hand takes it all the same."""
    loaded.load(info, 0, 8)
    loaded.end(begin(loaded, 8))
    loaded.load(info, 0, 8)
    assert begin(loaded, 1).pages == 8


def test_a_page_loaded_again_meanwhile_stays(loaded: LoadedPages, info: AnonInodeInfo) -> None:
    loaded.load(info, 0, 8)
    unload = begin(loaded, 8)
    assert loaded.is_unloading(info, 400, 1), "neighbours are"
    assert not loaded.is_unloading(info, CHUNK, 1)
    loaded.load(info, 3, 1)
    loaded.load(info, 9, 1)
    assert loaded.begin(8) is None, "what is on its way is nobody else's"
    assert loaded.end(unload) == 7
    assert pages_of(loaded, info) == {3, 9}
    assert not loaded.is_unloading(info, 0, 8)
    assert covered(begin(loaded, 8)) >= {3, 9}


def test_a_page_written_back_meanwhile_goes(loaded: LoadedPages, info: AnonInodeInfo) -> None:
    loaded.load(info, 0, 8)
    unload = begin(loaded, 8)
    loaded.note_write_back(info, 2, 4)
    loaded.load(info, 3, 1, touched=False)
    loaded.end(unload)
    assert pages_of(loaded, info) == {3}
    loaded.note_write_back(info, 5, 1)
    assert pages_of(loaded, info) == {3, 5}, "whatever the kernel says it has is counted"
    assert loaded.refaulted == 0


def test_what_is_cut_off_meanwhile_does_not_count_twice(
    loaded: LoadedPages, info: AnonInodeInfo
) -> None:
    loaded.load(info, 0, 8)
    unload = begin(loaded, 8)
    loaded.drop(info, 4)
    assert loaded.pages == 4
    assert loaded.end(unload) == 4
    assert loaded.pages == 0


def test_the_holes_among_what_went(
    memory: Memory, loaded: LoadedPages, info: AnonInodeInfo
) -> None:
    sync.write(memory, info, PAGE_SIZE, page("a") * 3)
    loaded.load(info, 0, 6)
    loaded.load(info, CHUNK, 2)
    assert loaded.end(begin(loaded, 8)) == 5


def test_the_hand_passes_over_what_is_held_back(loaded: LoadedPages, memory: Memory) -> None:
    info, other = inode(memory, 1), inode(memory, 2)
    loaded.load(info, 0, 3)
    loaded.load(other, 0, 3)
    loaded.hold(info, 5, 1, 1)
    loaded.hold(info, 6, 1, 1)
    loaded.hold(info, 5, 1, -1)
    unload = begin(loaded, 9)
    assert unload.info is other
    loaded.end(unload)
    assert loaded.begin(9) is None
    loaded.hold(info, 6, 1, -1)
    assert begin(loaded, 9).info is info


def test_a_range_whatever_it_holds(loaded: LoadedPages, info: AnonInodeInfo) -> None:
    loaded.load(info, 0, CHUNK + 100)
    unload = loaded.begin_range(info, 500, 20)
    assert (unload.runs, unload.pages) == ([(500, 20)], 20)
    loaded.end(unload)
    assert pages_of(loaded, info) == {*range(500), *range(520, CHUNK + 100)}


# -- leaving nothing behind ----------------------------------------------------------------


def test_files_that_are_gone_leave_nothing_behind(loaded: LoadedPages, memory: Memory) -> None:
    """Even where there is room all the time, so that the hand never comes."""
    for number in range(2, 200):
        gone = inode(memory, number)
        loaded.load(gone, 0, 700)
        memory.delete(gone)
    assert (len(loaded._queue), len(loaded._chunks)) == (0, 0)


def test_a_file_that_goes_while_it_is_unloaded_leaves_nothing_behind(
    loaded: LoadedPages, memory: Memory
) -> None:
    gone = inode(memory, 2)
    loaded.load(gone, 0, 8)
    unload = begin(loaded, 8)
    memory.delete(gone)
    assert loaded.end(unload) == 0
    assert (len(loaded._queue), len(loaded._chunks)) == (0, 0)


def test_a_read_that_was_held_back_leaves_nothing_behind(
    loaded: LoadedPages, info: AnonInodeInfo
) -> None:
    loaded.hold(info, 5, 1, 1)
    loaded.drop(info)
    loaded.hold(info, 5, 1, -1)
    assert len(loaded._chunks) == 0


# -- against sets --------------------------------------------------------------------------

_WHICH = st.integers(0, 1)
_FIRST = st.sampled_from([0, 1, 7, 63, 64, 500, 511, 512, 600, 1023, 1024])
_COUNT = st.sampled_from([1, 2, 5, 12, 64, 512, 700])
_EXISTING = {*range(3, 9), *range(510, 514)}


class LoadedMachine(RuleBasedStateMachine):
    """What is loaded, by (inode, page), in plain sets."""

    def __init__(self) -> None:
        super().__init__()
        self._engine = engine(frames=64)
        self.memory = self._engine.__enter__()
        self.loaded = self.memory.loaded
        self.infos = [inode(self.memory, number) for number in (1, 2)]
        for number in sorted(_EXISTING):
            sync.write(self.memory, self.infos[0], number * PAGE_SIZE, b"x")
        self.model: set[tuple[int, int]] = set()
        self.held: list[tuple[int, int, int]] = []
        self.unload: Unload | None = None
        self.leaving: set[tuple[int, int]] = set()

    def _range(self, which: int, first: int, count: int) -> set[tuple[int, int]]:
        return {(which, number) for number in range(first, first + count)}

    @rule(which=_WHICH, first=_FIRST, count=_COUNT, touched=st.booleans())
    def load(self, which: int, first: int, count: int, touched: bool) -> None:
        self.loaded.load(self.infos[which], first, count, touched=touched)
        pages = self._range(which, first, count)
        self.model |= pages
        self.leaving -= pages

    @rule(which=_WHICH, first=_FIRST, count=_COUNT)
    def note_write_back(self, which: int, first: int, count: int) -> None:
        self.loaded.note_write_back(self.infos[which], first, count)
        fresh = self._range(which, first, count) - self.model
        self.model |= fresh
        self.leaving -= fresh

    @rule(which=_WHICH, first=_FIRST)
    def drop(self, which: int, first: int) -> None:
        self.loaded.drop(self.infos[which], first)
        gone = {key for key in self.model if key[0] == which and key[1] >= first}
        self.model -= gone
        self.leaving -= gone

    @rule(which=_WHICH, first=_FIRST, count=_COUNT)
    def hold(self, which: int, first: int, count: int) -> None:
        self.loaded.hold(self.infos[which], first, count, 1)
        self.held.append((which, first, count))

    @precondition(lambda self: self.held)
    @rule(newest=st.booleans())
    def let_go(self, newest: bool) -> None:
        which, first, count = self.held.pop(-1 if newest else 0)
        self.loaded.hold(self.infos[which], first, count, -1)

    def _held_chunks(self) -> set[tuple[int, int]]:
        return {
            (which, number // CHUNK)
            for which, first, count in self.held
            for number in range(first, first + count)
        }

    @precondition(lambda self: self.unload is None)
    @rule(wanted=st.sampled_from([1, 5, 512, 513, 5000]))
    def begin(self, wanted: int) -> None:
        held = self._held_chunks()
        free = {key for key in self.model if (key[0], key[1] // CHUNK) not in held}
        self.unload = self.loaded.begin(wanted)
        if self.unload is None:
            assert not free, "the hand comes to every page within two rounds"
            return
        which = self.infos.index(self.unload.info)
        runs = {(which, number) for number in covered(self.unload)}
        self.leaving = runs & self.model
        assert self.leaving <= free
        assert len(self.leaving) == self.unload.pages > 0
        touched = {number // CHUNK for _, number in self.leaving}
        rest = {
            (which, page)
            for index in touched
            for page in range(index * CHUNK, index * CHUNK + CHUNK)
        }
        assert runs == rest - (self.model - self.leaving), "nothing but what is kept is left out"
        assert len(runs) == sum(count for _, count in self.unload.runs)

    @precondition(lambda self: self.unload is None)
    @rule(which=_WHICH, first=_FIRST, count=_COUNT)
    def begin_range(self, which: int, first: int, count: int) -> None:
        self.unload = self.loaded.begin_range(self.infos[which], first, count)
        assert self.unload.runs == [(first, count)]
        self.leaving = self._range(which, first, count) & self.model
        assert self.unload.pages == len(self.leaving)

    @precondition(lambda self: self.unload is not None)
    @rule()
    def end(self) -> None:
        assert self.unload is not None
        holes = {key for key in self.leaving if key[0] == 1 or key[1] not in _EXISTING}
        assert self.loaded.end(self.unload) == len(holes)
        self.model -= self.leaving
        self.unload, self.leaving = None, set()

    @precondition(lambda self: self.unload is not None)
    @rule()
    def abandon(self) -> None:
        assert self.unload is not None
        self.loaded.abandon(self.unload)
        self.unload, self.leaving = None, set()

    @invariant()
    def check(self) -> None:
        self.loaded.check_invariants()
        assert self.loaded.pages == len(self.model)
        for which, info in enumerate(self.infos):
            expected = {number for found, number in self.model if found == which}
            assert pages_of(self.loaded, info) == expected
            mask = self.loaded.mask(info, 3, 1800)
            assert {int(at) + 3 for at in np.flatnonzero(mask)} == {n for n in expected if n >= 3}

    def teardown(self) -> None:
        if self.unload is not None:
            self.end()
        while self.held:
            self.let_go(newest=True)
        drop_all(self.loaded)
        assert self.loaded.pages == 0
        self._engine.__exit__(None, None, None)
        assert (len(self.loaded._queue), len(self.loaded._chunks)) == (0, 0)


TestLoaded = LoadedMachine.TestCase
