"""Overlays, and copies of them, against byte arrays: what is written shows, and else the front.

After each step every byte of every inode is read, and frames and slots are counted anew. Pages lie
on both sides of the border of two leaves, and the front ends within a page. Frames and slots are
few, so that both run out. Of one inode at a time there is a copy, its moment, of which a front may
be made.
"""

import contextlib
import errno
import itertools
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo, FrontLoad, Image, Memory, PageState, overlaying, sync
from anonfs.swap import SwapArea
from anonfs.units import PAGE_SIZE, Ino, pages_for
from tests.mm.engine import FaultyStore

_BASE = 510 * PAGE_SIZE
_SIZE = 5 * PAGE_SIZE
_FRONT = random.Random(1).randbytes(3 * PAGE_SIZE + 100)
_MOST = 4
_OFFSETS = st.one_of(
    st.integers(0, 4).map(lambda page: page * PAGE_SIZE), st.integers(0, _SIZE - 1)
)
_SIZES = st.sampled_from([1, PAGE_SIZE, PAGE_SIZE + 1, _SIZE])
_ANY = st.integers(0, 1 << 16)
_REFUSALS = {errno.EIO, errno.EAGAIN, errno.ENOSPC}


class BytesStore:
    """A front in memory, at `_BASE`; what a read waits for is not there ``at_once``."""

    domain = 0

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at_once = True
        self.closed = 0

    def read_into(self, buffer: memoryview, offset: int) -> int:
        found = self.content[max(0, offset - _BASE) :][: len(buffer)]
        assert offset >= _BASE
        buffer[: len(found)] = found
        return len(found)

    def read_at_once(self, buffer: memoryview, offset: int) -> int:
        return self.read_into(buffer, offset) if self.at_once else 0

    def close(self) -> None:
        self.closed += 1


class OverlayMachine(RuleBasedStateMachine):
    """Up to four inodes of five pages, seven frames, ten slots."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Image(7)
        self.disk = FaultyStore(10)
        self.memory = Memory(self.image, SwapArea(self.disk))
        self.numbers = itertools.count(2)
        self.front = BytesStore(_FRONT)
        self.fronts = [self.front]
        info = self.memory.create(Ino(1))
        overlaying.overlay(self.memory, info, self.front, _BASE + len(_FRONT))
        self.shows = {info: bytearray(_FRONT.ljust(_SIZE, b"\0"))}
        self.inodes = [(info, bytearray(self.shows[info]))]
        self.moment: tuple[AnonInodeInfo, AnonInodeInfo, bytes] | None = None
        self.changed = False

    def pick(self, at: int) -> tuple[AnonInodeInfo, bytearray]:
        return self.inodes[at % len(self.inodes)]

    @rule(at=_ANY, offset=_OFFSETS, size=_SIZES, fill=st.sampled_from([0, 7]))
    def write(self, at: int, offset: int, size: int, fill: int) -> None:
        info, model = self.pick(at)
        self.changed = True
        data = bytes([fill]) * min(size, _SIZE - offset)
        try:
            sync.write(self.memory, info, _BASE + offset, data)
        except OSError as error:
            assert error.errno in _REFUSALS  # noqa: PT017
        else:
            model[offset : offset + len(data)] = data

    @rule(at=_ANY, offset=_OFFSETS, size=_SIZES)
    def punch(self, at: int, offset: int, size: int) -> None:
        info, model = self.pick(at)
        size = min(size, _SIZE - offset)
        try:
            sync.punch(self.memory, info, _BASE + offset, size)
        except OSError as error:
            assert error.errno in _REFUSALS  # noqa: PT017
        else:
            model[offset : offset + size] = bytes(size)
            self.changed = True

    @rule(at=_ANY, size=_OFFSETS)
    def truncate(self, at: int, size: int) -> None:
        info, model = self.pick(at)
        self.changed = True
        try:
            sync.truncate(self.memory, info, _BASE + size)
        except OSError as error:
            assert error.errno in _REFUSALS  # noqa: PT017
        else:
            model[size:] = bytes(_SIZE - size)

    @rule(at=_ANY, first=st.integers(0, 4), last=st.integers(0, 4))
    def swap_out(self, at: int, first: int, last: int) -> None:
        with contextlib.suppress(AnonfsError):
            sync.swap_out(self.memory, self.pick(at)[0], 510 + first, 510 + last)

    @rule(at=_ANY, lazy=st.booleans())
    def clone(self, at: int, lazy: bool) -> None:
        info, model = self.pick(at)
        copy = self.memory.clone(info, Ino(next(self.numbers)), lazy=lazy)
        self.inodes.append((copy, bytearray(model)))
        self.shows[copy] = self.shows[info]
        if len(self.inodes) > _MOST:
            self.delete(at // 2)

    @rule(at=_ANY)
    def discard(self, at: int) -> None:
        info, model = self.pick(at)
        overlaying.discard(self.memory, info)
        model[:] = self.shows[info]

    @precondition(lambda self: len(self.inodes) > 1)
    @rule(at=_ANY)
    def delete(self, at: int) -> None:
        info, _ = self.inodes.pop(at % len(self.inodes))
        self.memory.delete(info)

    @rule(at=_ANY, lazy=st.booleans())
    def take_moment(self, at: int, lazy: bool) -> None:
        info, model = self.pick(at)
        self.forget_moment()
        self.changed = False
        self.moment = (
            info,
            self.memory.clone(info, Ino(next(self.numbers)), lazy=lazy),
            bytes(model),
        )

    def forget_moment(self) -> None:
        if self.moment is not None:
            self.memory.delete(self.moment[1])
            self.moment = None

    @precondition(lambda self: self.moment is not None)
    @rule(size=_OFFSETS)
    def commit(self, size: int) -> None:
        """Whatever was done since the moment, nothing that can be read becomes another."""
        assert self.moment is not None
        info, moment, content = self.moment
        if info not in self.memory.infos:
            return
        size = _SIZE if any(content[size:]) else size
        store = BytesStore(content[:size])
        try:
            overlaying.change_front(self.memory, info, moment, store, _BASE + size)
        except AnonfsError as error:
            assert error.errno == errno.ESTALE  # noqa: PT017
            return
        assert self.changed or size < _SIZE or not info.allocated
        self.fronts.append(store)
        self.shows[info] = bytearray(content)
        self.forget_moment()

    @rule(at_once=st.booleans())
    def wait_or_not(self, at_once: bool) -> None:
        for front in self.fronts:
            front.at_once = at_once

    @invariant()
    def check(self) -> None:
        self.memory.check_invariants()
        for info, model in self.inodes:
            assert sync.read(self.memory, info, _BASE, _SIZE) == model
            self.check_states(info)
        if self.moment is not None:
            assert sync.read(self.memory, self.moment[1], _BASE, _SIZE) == self.moment[2]
        assert self.memory.overlays == len(self.inodes) + (self.moment is not None)

    def check_states(self, info: AnonInodeInfo) -> None:
        """Each page is told once, and what shows the front takes no place."""
        state = {
            page: state for first, last, state in info.runs(515) for page in range(first, last + 1)
        }
        assert len(state) == 515
        kinds = list(state.values())
        assert kinds.count(PageState.IN_CORE) == info.in_core
        assert kinds.count(PageState.ON_SWAP) == info.on_swap
        assert kinds.count(PageState.FRONT) == info.front_shown(0, 515)
        last = max((p for p, kind in state.items() if kind is PageState.FRONT), default=-1)
        assert last < pages_for(info.front_end)

    def teardown(self) -> None:
        self.forget_moment()
        for info, _ in self.inodes:
            assert info.front is not None
            assert isinstance(info.front.store, BytesStore)
            assert not info.front.store.closed
            self.memory.delete(info)
        self.memory.check_invariants()
        held = self.memory.frames.used, self.memory.swap.used, self.memory.leaves.live
        assert held == (0, 0, 0)
        assert {front.closed for front in self.fronts} == {1}
        self.image.close()


TestOverlays = OverlayMachine.TestCase
TestOverlays.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_a_file_that_became_too_short_is_eio_beyond_its_last_page() -> None:
    image = Image(4)
    memory = Memory(image, SwapArea(FaultyStore(4)))
    info, store = memory.create(Ino(1)), BytesStore(_FRONT)
    overlaying.overlay(memory, info, store, _BASE + len(_FRONT))
    sync.write(memory, info, _BASE + 2 * PAGE_SIZE, b"own" * 2000)
    store.content = _FRONT[:10]
    assert sync.read(memory, info, _BASE, PAGE_SIZE) == _FRONT[:10].ljust(PAGE_SIZE, b"\0")
    for call in (
        lambda: sync.read(memory, info, _BASE + PAGE_SIZE, PAGE_SIZE),
        lambda: sync.read(memory, info, _BASE, 4 * PAGE_SIZE),
        lambda: sync.write(memory, info, _BASE + PAGE_SIZE, b"a part"),
    ):
        with pytest.raises(OSError, match="too short"):
            call()
        memory.check_invariants()
    assert bytes(sync.read(memory, info, _BASE + 2 * PAGE_SIZE, 6000)) == b"own" * 2000
    # A write that leaves nothing of the front out needs no front.
    sync.write(memory, info, _BASE + PAGE_SIZE, bytes(PAGE_SIZE))
    memory.delete(info)
    assert store.closed == 1
    image.close()


@pytest.mark.parametrize("hole", [(0, 10), (5, 10), (3, 3 * PAGE_SIZE)])
def test_a_hole_with_all_that_a_page_shows_of_the_front(hole: tuple[int, int]) -> None:
    image = Image(4)
    memory = Memory(image, SwapArea(FaultyStore(4)))
    info, store = memory.create(Ino(1)), BytesStore(_FRONT)
    overlaying.overlay(memory, info, store, _BASE + len(_FRONT))
    sync.truncate(memory, info, _BASE + 10)
    offset, size = hole
    sync.punch(memory, info, _BASE + offset, size)
    expected = bytearray(_FRONT[:10].ljust(4 * PAGE_SIZE, b"\0"))
    expected[offset : offset + size] = bytes(size)
    assert sync.read(memory, info, _BASE, 4 * PAGE_SIZE) == expected
    memory.check_invariants()
    memory.delete(info)
    image.close()


def test_what_is_loaded_for_a_write_is_not_of_the_front_before() -> None:
    """It was stored to, and made part of the next front, while the old one was being read."""
    image = Image(6)
    memory = Memory(image, SwapArea(FaultyStore(4)))
    info, old = memory.create(Ino(1)), BytesStore(_FRONT)
    overlaying.overlay(memory, info, old, _BASE + len(_FRONT))
    load = FrontLoad(memory, info, [_BASE // PAGE_SIZE])
    load.run()
    sync.write(memory, info, _BASE, bytes(PAGE_SIZE))
    moment = memory.clone(info, Ino(2), lazy=False)
    content = bytes(PAGE_SIZE) + _FRONT[PAGE_SIZE:]
    overlaying.change_front(memory, info, moment, BytesStore(content), _BASE + len(content))
    assert not info.allocated
    load.finish()
    sync.write(memory, info, _BASE, b"later")
    assert bytes(sync.read(memory, info, _BASE, 9)) == b"later\0\0\0\0"
    assert old.closed == 0
    memory.delete(moment)
    assert old.closed == 1
    memory.delete(info)
    memory.check_invariants()
    image.close()


def test_a_hole_above_a_huge_front_costs_nothing_by_the_page() -> None:
    image = Image(4)
    memory = Memory(image, SwapArea(FaultyStore(4)))
    info, end = memory.create(Ino(1)), _BASE + (1 << 50)
    overlaying.overlay(memory, info, BytesStore(_FRONT), end)
    sync.write(memory, info, 1 << 40, b"x" * PAGE_SIZE)
    sync.punch(memory, info, _BASE + 2 * PAGE_SIZE, end)
    assert (memory.leaves.live, memory.frames.used, info.allocated) == (0, 0, 0)
    copy = memory.clone(info, Ino(2), lazy=True)
    overlaying.discard(memory, info)
    assert info.front_shown(0, 1 << 50) == pages_for(end)
    assert copy.front_shown(0, 1 << 50) == 512
    assert list(copy.runs(600)) == [(0, 511, PageState.FRONT), (512, 599, PageState.NONE)]
    assert sync.read(memory, copy, 1 << 49, 9) == bytes(9)
    memory.check_invariants()
    for overlay in (info, copy):
        memory.delete(overlay)
    image.close()


def test_holes_before_and_after_the_moment_of_a_commit() -> None:
    image = Image(8)
    memory = Memory(image, SwapArea(FaultyStore(4)))
    info = memory.create(Ino(1))
    overlaying.overlay(memory, info, BytesStore(_FRONT), _BASE + len(_FRONT))
    for page in range(2):
        sync.write(memory, info, _BASE + page * PAGE_SIZE, b"x" * PAGE_SIZE)
    sync.punch(memory, info, _BASE + 2 * PAGE_SIZE, PAGE_SIZE)
    moment = memory.clone(info, Ino(2), lazy=True)
    content = bytes(sync.read(memory, moment, _BASE, len(_FRONT)))
    sync.punch(memory, info, _BASE, PAGE_SIZE)
    discarded = memory.clone(info, Ino(3), lazy=True)
    overlaying.discard(memory, discarded)
    with pytest.raises(AnonfsError, match="since"):
        overlaying.change_front(
            memory, discarded, moment, BytesStore(content), _BASE + len(content)
        )
    overlaying.change_front(memory, info, moment, BytesStore(content), _BASE + len(content))
    assert info.allocated == 0
    shown = bytes(PAGE_SIZE) + content[PAGE_SIZE:]
    assert bytes(sync.read(memory, info, _BASE, len(shown))) == shown
    assert list(info.hidden) == [(510, 511)]
    memory.check_invariants()
    for overlay in (info, moment, discarded):
        memory.delete(overlay)
    image.close()
