"""The engine against byte arrays: any sequence of calls gives the bytes that it should."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from anonfs.mm import AnonInodeInfo, Image, Memory, Work, perform, sync
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE, Ino

_PAGES = 24
_OFFSETS = st.one_of(
    st.integers(0, _PAGES - 1).map(lambda page: page * PAGE_SIZE),
    st.integers(0, _PAGES * PAGE_SIZE - 1),
)
_SIZES = st.one_of(st.sampled_from([1, PAGE_SIZE, 2 * PAGE_SIZE]), st.integers(1, 6 * PAGE_SIZE))
_WHICH = st.integers(0, 1)


class EngineMachine(RuleBasedStateMachine):
    """Two inodes in 8 frames, with evictions that other calls overtake."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Image(8)
        self.memory = Memory(self.image, SwapArea(MemoryStore(200)))
        self.infos: list[AnonInodeInfo] = [self.memory.create(Ino(n)) for n in (1, 2)]
        self.models = [bytearray(), bytearray()]
        self.under_way: list[Work] = []

    @rule(which=_WHICH, offset=_OFFSETS, size=_SIZES, fill=st.integers(0, 255))
    def write(self, which: int, offset: int, size: int, fill: int) -> None:
        if self.under_way:
            self.land()  # or all frames may be on their way
        model = self.models[which]
        sync.write(self.memory, self.infos[which], offset, bytes([fill]) * size)
        model.extend(bytes(max(0, offset + size - len(model))))
        model[offset : offset + size] = bytes([fill]) * size

    @rule(which=_WHICH, offset=_OFFSETS, size=_SIZES)
    def read(self, which: int, offset: int, size: int) -> None:
        expected = bytes(self.models[which][offset : offset + size])
        found = bytes(sync.read(self.memory, self.infos[which], offset, size))
        assert found == expected.ljust(size, b"\0")

    @rule(which=_WHICH, size=st.integers(0, _PAGES * PAGE_SIZE))
    def truncate(self, which: int, size: int) -> None:
        if self.under_way:
            self.land()
        sync.truncate(self.memory, self.infos[which], size)
        del self.models[which][size:]

    @rule(which=_WHICH, first=st.integers(0, _PAGES - 1), count=st.integers(1, _PAGES))
    def begin_swap_out(self, which: int, first: int, count: int) -> None:
        eviction, _ = self.memory.work_to_swap_out(self.infos[which], first, first + count - 1)
        if eviction is not None:
            self.under_way.append(eviction)

    @rule()
    def land(self) -> None:
        while self.under_way:
            perform(self.under_way.pop())

    @rule()
    def fail(self) -> None:
        while self.under_way:
            self.under_way.pop().abandon()

    @rule(which=_WHICH)
    def delete(self, which: int) -> None:
        self.memory.delete(self.infos[which])
        self.infos[which] = self.memory.create(self.infos[which].ino)
        self.models[which].clear()

    @invariant()
    def check(self) -> None:
        self.memory.check_invariants()

    def teardown(self) -> None:
        self.land()
        for info in self.infos:
            self.memory.delete(info)
        self.memory.check_invariants()
        assert self.memory.frames.used == self.memory.swap.used == 0
        self.image.close()


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
