"""The engine against byte arrays: any sequence of calls gives the bytes that it should.

Evictions begin, run and end one by one, in any order, with whatever else in between; the disk
fails for a while, in all or at some slots. What is in core of a locked inode stays there.
"""

import contextlib
import errno

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo, Eviction, Image, Memory, PageState, SwapRead, cutting, sync
from anonfs.mm._entry import numbers, states
from anonfs.swap import SwapArea
from anonfs.units import PAGE_SIZE, Ino, pages_for
from tests.mm.engine import FaultyStore

_PAGES = 16
_SLOTS = 40
_OFFSETS = st.one_of(
    st.integers(0, _PAGES - 1).map(lambda page: page * PAGE_SIZE),
    st.integers(0, _PAGES * PAGE_SIZE - 1),
)
_SIZES = st.one_of(st.sampled_from([1, PAGE_SIZE, 2 * PAGE_SIZE]), st.integers(1, 6 * PAGE_SIZE))
_WHICH = st.integers(0, 1)
_ANY = st.integers(0, 1 << 16)
_REFUSALS = {errno.EIO, errno.EAGAIN, errno.ENOSPC}


class EngineMachine(RuleBasedStateMachine):
    """Two inodes in 8 frames, with evictions and reads that other calls overtake."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.image = Image(8)
        self.store = FaultyStore(_SLOTS)
        self.memory = Memory(self.image, SwapArea(self.store, lambda: self.seconds))
        self.infos: list[AnonInodeInfo] = [self.memory.create(Ino(n)) for n in (1, 2)]
        self.models = [bytearray(), bytearray()]
        self.swapped: list[set[int]] = [set(), set()]
        self.begun: list[Eviction] = []
        self.ran: list[Eviction] = []
        self.reads: list[tuple[SwapRead, bytes]] = []

    # -- the bytes ---------------------------------------------------------------------------

    @rule(which=_WHICH, offset=_OFFSETS, size=_SIZES, fill=st.integers(0, 255))
    def write(self, which: int, offset: int, size: int, fill: int) -> None:
        model = self.models[which]
        try:
            sync.write(self.memory, self.infos[which], offset, bytes([fill]) * size)
        except OSError as error:
            assert error.errno in _REFUSALS  # noqa: PT017
            return
        model.extend(bytes(max(0, offset + size - len(model))))
        model[offset : offset + size] = bytes([fill]) * size

    @rule(which=_WHICH, offset=_OFFSETS, size=_SIZES)
    def punch(self, which: int, offset: int, size: int) -> None:
        model, info = self.models[which], self.infos[which]
        try:
            sync.punch(self.memory, info, offset, size)
        except OSError as error:
            assert error.errno in _REFUSALS  # noqa: PT017
            return
        end = min(len(model), offset + size)
        model[offset:end] = bytes(max(0, end - offset))
        first, last = pages_for(offset), (offset + size) // PAGE_SIZE
        assert info.holes(first, max(0, last - first)) == max(0, last - first)

    @rule(which=_WHICH, fill=st.integers(0, 255))
    def take_all_frames(self, which: int, fill: int) -> None:
        for page in range(_PAGES):
            state = states(self.infos[which].entries(page, 1))[0]
            if self.memory.frames.free and state != PageState.IN_CORE:
                self.write(which, page * PAGE_SIZE, PAGE_SIZE, fill)

    def expected(self, which: int, offset: int, size: int) -> bytes:
        return bytes(self.models[which][offset : offset + size]).ljust(size, b"\0")

    @rule(which=_WHICH, offset=_OFFSETS, size=_SIZES)
    def read(self, which: int, offset: int, size: int) -> None:
        with (
            contextlib.nullcontext() if not self.store.fail_reads else contextlib.suppress(OSError)
        ):
            found = bytes(sync.read(self.memory, self.infos[which], offset, size))
            assert found == self.expected(which, offset, size)

    @rule(which=_WHICH, offset=_OFFSETS, size=_SIZES)
    def begin_read(self, which: int, offset: int, size: int) -> None:
        found = self.memory.reading.begin(self.infos[which], offset, size)
        if isinstance(found, SwapRead):
            self.reads.append((found, self.expected(which, offset, size)))

    @precondition(lambda self: self.reads)
    @rule(at=_ANY)
    def end_read(self, at: int) -> None:
        found, expected = self.reads.pop(at % len(self.reads))
        try:
            found.run()
        except OSError:
            assert self.store.fail_reads
            found.abandon()
            return
        found.finish()
        assert found.data == expected

    @precondition(lambda self: self.reads)
    @rule(which=_WHICH, fill=st.integers(0, 255))
    def reuse_slots(self, which: int, fill: int) -> None:
        """Free what is being read, and write other pages to swap."""
        self.delete(which)
        self.take_all_frames(1 - which, fill)
        self.begin_eviction(1 - which, 0)
        while self.begun:
            self.run_and_end(0)

    @rule(which=_WHICH, size=st.integers(0, _PAGES * PAGE_SIZE), at=_ANY)
    def truncate(self, which: int, size: int, at: int) -> None:
        info = self.infos[which]
        while (cut := cutting.work_before_truncate(self.memory, info, size)) is not None:
            self.run_and_end(at)
            try:
                cut.run()
            except OSError:
                cut.abandon()
                return
            self.run_and_end(at)
            cut.finish()
            if cutting.is_cut(info, size, cut):
                break
        cutting.truncate(self.memory, info, size, cut)
        del self.models[which][size:]

    @rule(which=_WHICH)
    def delete(self, which: int) -> None:
        self.memory.delete(self.infos[which])
        self.infos[which] = self.memory.create(self.infos[which].ino)
        self.models[which].clear()

    # -- evictions ---------------------------------------------------------------------------

    @rule(which=st.sampled_from([0, 1, None]), first=st.integers(0, _PAGES - 1))
    def begin_eviction(self, which: int | None, first: int) -> None:
        self.memory.swap._map._hand = 1  # freed slots come again as soon as can be
        with contextlib.suppress(AnonfsError):
            if which is None:
                eviction = self.memory.work_to_evict(1 + first)
            else:
                last = first + _PAGES
                eviction, _ = self.memory.work_to_swap_out(self.infos[which], first, last)
            self.begun += [eviction] if eviction is not None else []

    @precondition(lambda self: self.begun)
    @rule(at=_ANY)
    def run(self, at: int) -> None:
        eviction = self.begun.pop(at % len(self.begun))
        eviction.run()
        self.ran.append(eviction)

    @precondition(lambda self: self.ran)
    @rule(at=_ANY)
    def end(self, at: int) -> None:
        self.ran.pop(at % len(self.ran)).finish()

    def run_and_end(self, at: int) -> None:
        if self.begun:
            self.run(at)
        if self.ran:
            self.end(at)

    @precondition(lambda self: self.begun or self.ran)
    @rule(at=_ANY)
    def abandon(self, at: int) -> None:
        evictions = self.begun or self.ran
        evictions.pop(at % len(evictions)).abandon()

    @precondition(lambda self: self.begun or self.ran)
    @rule(at=_ANY, inside=st.integers(0, PAGE_SIZE - 1), size=_SIZES, fill=st.integers(0, 255))
    def overtake(self, at: int, inside: int, size: int, fill: int) -> None:
        """Write to, or cut, a page that is on its way to swap."""
        on_the_way = [
            (which, page)
            for which, info in enumerate(self.infos)
            for page in range(_PAGES)
            if states(entry := info.entries(page, 1))[0] == PageState.IN_CORE
            and self.memory.frames.in_io(numbers(entry))[0]
        ]
        if not on_the_way:
            return
        which, page = on_the_way[at % len(on_the_way)]
        if at % 3:
            self.write(which, page * PAGE_SIZE + (inside if at % 2 else 0), size, fill)
        else:
            self.take_all_frames(1 - which, fill)
            self.truncate(which, page * PAGE_SIZE + inside, at)

    # -- locking -----------------------------------------------------------------------------

    @rule(which=_WHICH, all_of_it=st.booleans())
    def lock(self, which: int, all_of_it: bool) -> None:
        info = self.infos[which]
        if not info.locked:
            self.memory.lock(info)
        if all_of_it:
            try:
                sync.bring_in(self.memory, info)
            except OSError as error:
                assert error.errno in _REFUSALS  # noqa: PT017
            else:
                assert info.on_swap == 0

    @rule(which=_WHICH)
    def unlock(self, which: int) -> None:
        if self.infos[which].locked:
            self.memory.unlock(self.infos[which])

    # -- the disk ----------------------------------------------------------------------------

    @rule(slot=st.integers(1, _SLOTS), reads=st.booleans(), writes=st.booleans())
    def break_disk(self, slot: int, reads: bool, writes: bool) -> None:
        self.store.bad_writes.update(range(slot, slot + 3))
        self.store.fail_reads, self.store.fail_writes = reads, writes

    @rule(seconds=st.sampled_from([0.1, 2.0]))
    def mend_disk(self, seconds: float) -> None:
        self.store.fail_reads = self.store.fail_writes = False
        self.store.bad_writes.clear()
        self.seconds += seconds

    @invariant()
    def check(self) -> None:
        self.memory.check_invariants()
        for which, info in enumerate(self.infos):
            entries = info.entries(0, _PAGES + 6)
            swapped = set(np.flatnonzero(states(entries) == PageState.ON_SWAP).tolist())
            assert not info.locked or swapped <= self.swapped[which], "a locked page went to swap"
            self.swapped[which] = swapped

    def teardown(self) -> None:
        self.mend_disk(2.0)
        while self.begun or self.ran:
            self.run_and_end(0)
        while self.reads:
            self.end_read(0)
        for which, info in enumerate(self.infos):
            self.unlock(which)
            self.read(which, 0, (_PAGES + 6) * PAGE_SIZE)
            self.memory.delete(info)
        self.memory.check_invariants()
        assert self.memory.frames.used == self.memory.swap.used == 0
        self.image.close()


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
