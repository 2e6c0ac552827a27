"""Inodes that are copies of each other against byte arrays: what is shared never shows.

After each step every byte of every inode is read, and frames and slots are counted anew. Pages lie
on both sides of the border of two leaves; frames and slots are few, so that both run out.
"""

import contextlib
import errno
import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anonfs.mm import AnonInodeInfo, Eviction, Image, Memory, cutting, sync
from anonfs.swap import SwapArea
from anonfs.units import PAGE_SIZE, Ino
from tests.mm.engine import FaultyStore

_BASE = 510 * PAGE_SIZE
_SIZE = 5 * PAGE_SIZE
_MOST = 5
_OFFSETS = st.one_of(
    st.integers(0, 4).map(lambda page: page * PAGE_SIZE), st.integers(0, _SIZE - 1)
)
_SIZES = st.sampled_from([1, PAGE_SIZE, PAGE_SIZE + 1, _SIZE])
_ANY = st.integers(0, 1 << 16)
_REFUSALS = {errno.EIO, errno.EAGAIN, errno.ENOSPC}


class CloneMachine(RuleBasedStateMachine):
    """Up to five inodes of five pages in seven frames and twelve slots."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.image = Image(7)
        self.store = FaultyStore(12)
        self.memory = Memory(self.image, SwapArea(self.store, lambda: self.seconds))
        self.numbers = itertools.count(2)
        self.inodes: list[tuple[AnonInodeInfo, bytearray]] = []
        self.inodes.append((self.memory.create(Ino(1)), bytearray(_SIZE)))
        self.evictions: list[Eviction] = []

    def pick(self, at: int) -> tuple[AnonInodeInfo, bytearray]:
        return self.inodes[at % len(self.inodes)]

    @rule(at=_ANY, offset=_OFFSETS, size=_SIZES, fill=st.integers(1, 255))
    def write(self, at: int, offset: int, size: int, fill: int) -> None:
        info, model = self.pick(at)
        data = bytes([fill]) * min(size, _SIZE - offset)
        try:
            sync.write(self.memory, info, _BASE + offset, data)
        except OSError as error:
            assert error.errno in _REFUSALS  # noqa: PT017
            return
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

    @rule(at=_ANY, lazy=st.booleans())
    def clone(self, at: int, lazy: bool) -> None:
        info, model = self.pick(at)
        copy = self.memory.clone(info, Ino(next(self.numbers)), lazy=lazy)
        assert (copy.in_core, copy.on_swap) == (info.in_core, info.on_swap)
        self.inodes.append((copy, bytearray(model)))
        if len(self.inodes) > _MOST:
            self.delete(at // 2)

    @rule(at=_ANY, size=_OFFSETS, beneath=st.booleans())
    def truncate(self, at: int, size: int, beneath: bool) -> None:
        """To a size within the pages, or to one from where both leaves go."""
        info, model = self.pick(at)
        size, whole = (0, 0) if beneath else (size, _BASE + size)
        while (cut := cutting.work_before_truncate(self.memory, info, whole)) is not None:
            self.end_eviction(at)
            try:
                cut.run()
            except OSError as error:
                assert error.errno in _REFUSALS  # noqa: PT017
                cut.abandon()
                return
            self.end_eviction(at)
            cut.finish()
            if cutting.is_cut(info, whole, cut):
                break
        cutting.truncate(self.memory, info, whole, cut)
        model[size:] = bytes(_SIZE - size)

    @rule(at=_ANY)
    def lock_or_unlock(self, at: int) -> None:
        info, _ = self.pick(at)
        if info.locked:
            self.memory.unlock(info)
        else:
            self.memory.lock(info)

    @precondition(lambda self: len(self.inodes) > 1)
    @rule(at=_ANY)
    def delete(self, at: int) -> None:
        info, _ = self.inodes.pop(at % len(self.inodes))
        self.memory.delete(info)

    @rule(at=_ANY, first=st.integers(0, 4), all_of_it=st.booleans())
    def begin_eviction(self, at: int, first: int, all_of_it: bool) -> None:
        self.memory.swap._map._hand = 1  # freed slots come again as soon as can be
        page = 510 + (0 if all_of_it else first)
        info, _ = self.pick(at)
        with contextlib.suppress(OSError):
            eviction, _ = self.memory.work_to_swap_out(info, page, page + (4 if all_of_it else 0))
            self.evictions += [eviction] if eviction is not None else []

    @precondition(lambda self: self.evictions)
    @rule(at=_ANY)
    def end_eviction(self, at: int) -> None:
        if self.evictions:
            eviction = self.evictions.pop(at % len(self.evictions))
            eviction.run()
            eviction.finish()

    @rule(at=_ANY)
    def swap_out(self, at: int) -> None:
        self.begin_eviction(at, 0, all_of_it=True)
        self.end_eviction(-1)

    @rule(slot=st.integers(1, 12), fail=st.booleans())
    def break_disk(self, slot: int, fail: bool) -> None:
        self.store.bad_writes, self.store.fail_writes = {slot}, fail

    @rule()
    def mend_disk(self) -> None:
        self.store.bad_writes, self.store.fail_writes = set(), False
        self.seconds += 2.0

    @invariant()
    def check(self) -> None:
        self.memory.check_invariants()
        for info, model in self.inodes:
            assert sync.read(self.memory, info, _BASE, _SIZE) == model
            assert info.allocated == info.in_core + info.on_swap <= 5

    def teardown(self) -> None:
        while self.evictions:
            self.end_eviction(0)
        for info, _ in self.inodes:
            self.memory.delete(info)
        self.memory.check_invariants()
        held = self.memory.frames.used, self.memory.swap.used, self.memory.leaves.live
        assert held == (0, 0, 0)
        self.image.close()


TestClones = CloneMachine.TestCase
TestClones.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
