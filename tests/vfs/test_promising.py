"""Pages are promised before they can be dirtied, and given back when nobody can dirty them."""

import errno
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from anonfs.errors import AnonfsError, InvariantError
from anonfs.mm import AnonInodeInfo, Image, Memory, Unload, sync
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import MAX_FILE_SIZE, PAGE_SIZE, pages_for
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode, rename

FILE = NewInode(stat.S_IFREG | 0o644, 0, 0)
FRAMES, SLACK, CAPACITY = 64, 256, 40


def filesystem(image: Image, *, overcommit: bool = False) -> FileSystem:
    memory = Memory(image, SwapArea(MemoryStore(CAPACITY + SLACK - FRAMES)))
    return FileSystem(image, memory, NewInode(stat.S_IFDIR | 0o755, 0, 0), overcommit=overcommit)


@pytest.fixture(params=[False, True], ids=["reserve", "overcommit"])
def either(request: pytest.FixtureRequest) -> Iterator[FileSystem]:
    with closing(Image(FRAMES)) as image:
        made = filesystem(image, overcommit=request.param)
        yield made
        made.check_invariants()
        made.memory.check_invariants()


@pytest.fixture
def fs() -> Iterator[FileSystem]:
    with closing(Image(FRAMES)) as image:
        made = filesystem(image)
        yield made
        made.check_invariants()


@pytest.fixture
def sparse() -> Iterator[FileSystem]:
    with closing(Image(FRAMES)) as image:
        made = filesystem(image, overcommit=True)
        yield made
        made.check_invariants()


def left(fs: FileSystem) -> int:
    return fs.memory.promises.free


def store(fs: FileSystem, inode: Inode, page: int, pages: int, byte: bytes = b"x") -> None:
    """What a WRITE does."""
    offset, size = page * PAGE_SIZE, pages * PAGE_SIZE
    assert inode.info is not None
    with fs.promising.writing(inode, offset, size):
        sync.write(fs.memory, inode.info, offset, byte * size)
        fs.written(inode, offset + size)


def refused(call: object, *arguments: object) -> None:
    with pytest.raises(AnonfsError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.errno == errno.ENOSPC


def test_growing_and_shrinking(fs: FileSystem) -> None:
    made = fs.make(ROOT, b"a", FILE)
    for size, pages in [(1, 1), (PAGE_SIZE, 1), (PAGE_SIZE + 1, 2), (9, 1), (0, 0)]:
        fs.truncate(made, size)
        assert (made.promised, left(fs)) == (pages, CAPACITY - pages)


def test_growing_beyond_the_room_changes_nothing(fs: FileSystem) -> None:
    made, other = fs.make(ROOT, b"a", FILE), fs.make(ROOT, b"b", FILE)
    fs.truncate(other, 30 * PAGE_SIZE)
    fs.truncate(made, 7 * PAGE_SIZE)
    before = made.mtime
    refused(fs.truncate, made, 10 * PAGE_SIZE + 1)
    refused(fs.truncate, made, MAX_FILE_SIZE)
    assert (made.size, made.promised, made.mtime) == (7 * PAGE_SIZE, 7, before)
    fs.truncate(made, 10 * PAGE_SIZE)
    assert left(fs) == 0


def test_a_write_makes_its_file_larger_only_if_there_is_room(either: FileSystem) -> None:
    made = either.make(ROOT, b"a", FILE)
    store(either, made, 0, CAPACITY - 1)
    refused(store, either, made, CAPACITY - 1, 2)
    assert (made.size, left(either)) == ((CAPACITY - 1) * PAGE_SIZE, 1)
    store(either, made, CAPACITY - 1, 1)
    store(either, made, 3, 9)
    assert (made.promised, left(either)) == (CAPACITY, 0)


def test_a_failing_write_gives_back(either: FileSystem) -> None:
    made = either.make(ROOT, b"a", FILE)
    store(either, made, 0, 2)
    with suppress(ValueError), either.promising.writing(made, 0, 9 * PAGE_SIZE):
        assert made.promised == 9
        raise ValueError
    assert (made.promised, left(either)) == (2, CAPACITY - 2)


def test_a_write_may_be_overtaken(either: FileSystem) -> None:
    """What a write was promised stays, whatever others do before it stores."""
    made = either.make(ROOT, b"a", FILE)
    assert made.info is not None
    with either.promising.writing(made, 0, 9 * PAGE_SIZE):
        store(either, made, 0, 4)
        store(either, made, 11, 1)
        either.truncate(made, 5)
        other = either.make(ROOT, b"b", FILE)
        with suppress(AnonfsError):
            store(either, other, 0, CAPACITY - 8)
        assert made.promised >= 9
        either.check_invariants()
        sync.write(either.memory, made.info, 0, b"x" * 9 * PAGE_SIZE)
        either.written(made, 9 * PAGE_SIZE)
    either.promising.settle(made)
    assert made.promised == 9


@pytest.mark.parametrize("first", [0, 1])
def test_two_writes_of_which_either_ends_first(either: FileSystem, first: int) -> None:
    made = either.make(ROOT, b"a", FILE)
    writes = [ExitStack(), ExitStack()]
    writes[0].enter_context(either.promising.writing(made, 0, 3 * PAGE_SIZE))
    writes[1].enter_context(either.promising.writing(made, 3 * PAGE_SIZE, 2 * PAGE_SIZE))
    writes[first].close()
    assert made.promised == 5
    writes[1 - first].close()
    either.promising.settle(made)
    assert made.promised == 0


def test_deleting_gives_back_after_the_last_user(either: FileSystem) -> None:
    made = either.make(ROOT, b"a", FILE)
    store(either, made, 0, 7)
    either.open(made)
    either.unlink(ROOT, b"a")
    assert left(either) == CAPACITY - 7
    either.release(made)
    assert left(either) == CAPACITY


def test_renaming_over_gives_back_what_was_there(either: FileSystem) -> None:
    made, other = either.make(ROOT, b"a", FILE), either.make(ROOT, b"b", FILE)
    store(either, made, 0, 3)
    store(either, other, 0, 7)
    rename(either, ROOT, b"a", ROOT, b"b")
    assert left(either) == CAPACITY - 3


def test_what_has_no_pages_is_promised_none(either: FileSystem) -> None:
    target = b"t" * 4000
    for name, mode in [(b"l", stat.S_IFLNK), (b"d", stat.S_IFDIR), (b"p", stat.S_IFIFO)]:
        either.make(ROOT, name, NewInode(mode | 0o644, 0, 0, target=target))
    assert left(either) == CAPACITY


def test_slots_that_are_lost_make_less_room(
    fs: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fs.make(ROOT, b"a", FILE)
    fs.truncate(made, 30 * PAGE_SIZE)
    monkeypatch.setattr(fs.memory.promises, "_swap", SimpleNamespace(slots=SLACK - FRAMES + 20))
    assert (fs.memory.promises.capacity, left(fs)) == (20, 0)
    refused(fs.truncate, made, 31 * PAGE_SIZE)
    fs.truncate(made, 29 * PAGE_SIZE)


def test_sizes_are_free_with_overcommit(sparse: FileSystem) -> None:
    made = sparse.make(ROOT, b"a", FILE)
    sparse.truncate(made, MAX_FILE_SIZE)
    assert (made.promised, left(sparse)) == (0, CAPACITY)
    store(sparse, made, 1 << 30, 3)
    store(sparse, made, (1 << 30) + 2, 2)
    assert (made.promised, left(sparse)) == (4, CAPACITY - 4)
    sparse.truncate(made, ((1 << 30) + 1) * PAGE_SIZE)
    assert made.promised == 1


def test_pages_that_turn_out_to_be_zeros_are_given_back_where_room_is_short(
    sparse: FileSystem,
) -> None:
    made = sparse.make(ROOT, b"a", FILE)
    assert made.info is not None
    store(sparse, made, 0, 8, b"\0")
    sync.swap_out(sparse.memory, made.info, 0, 7)
    assert made.allocated == 0
    store(sparse, made, 0, 1)
    assert (made.promised, left(sparse)) == (9, CAPACITY - 9)
    store(sparse, made, 1, CAPACITY - 1)
    assert (made.promised, left(sparse)) == (CAPACITY, 0)


def read(fs: FileSystem, inode: Inode, page: int, pages: int) -> None:
    """What a READ does."""
    assert inode.info is not None
    fs.promising.hand_out(inode, page, pages)
    fs.memory.loaded.load(inode.info, page, pages)


def unload(fs: FileSystem, inode: Inode, page: int, pages: int) -> None:
    """What reclaim does."""
    assert inode.info is not None
    work = fs.memory.loaded.begin_range(inode.info, page, pages)
    fs.promising.take_back(inode, fs.memory.loaded.end(work))


def test_a_hole_is_promised_a_place_when_it_is_handed_out(sparse: FileSystem) -> None:
    made = sparse.make(ROOT, b"a", FILE)
    sparse.truncate(made, 100 * PAGE_SIZE)
    store(sparse, made, 0, 2)
    read(sparse, made, 0, 5)
    assert made.promised == 5, "two exist, three could be written to"
    read(sparse, made, 1, 6)
    store(sparse, made, 3, 1)
    assert made.promised == 7, "what was handed out is not promised twice"
    unload(sparse, made, 0, 7)
    assert (made.promised, left(sparse)) == (3, CAPACITY - 3)


def test_what_cannot_be_promised_is_not_handed_out(sparse: FileSystem) -> None:
    made = sparse.make(ROOT, b"a", FILE)
    sparse.truncate(made, 100 * PAGE_SIZE)
    read(sparse, made, 0, CAPACITY - 1)
    refused(sparse.promising.hand_out, made, CAPACITY, 2)
    read(sparse, made, CAPACITY, 1)
    store(sparse, made, 0, CAPACITY - 1)
    refused(sparse.promising.hand_out, made, CAPACITY + 1, 1)
    unload(sparse, made, CAPACITY, 1)
    read(sparse, made, CAPACITY + 1, 1)
    assert left(sparse) == 0


def test_what_was_cut_off_or_deleted_while_it_was_handed_out(sparse: FileSystem) -> None:
    made = sparse.make(ROOT, b"a", FILE)
    assert made.info is not None
    sparse.truncate(made, 20 * PAGE_SIZE)
    read(sparse, made, 0, 10)
    work = sparse.memory.loaded.begin_range(made.info, 0, 10)
    sparse.truncate(made, 4 * PAGE_SIZE)
    assert made.promised == 4
    sparse.promising.take_back(made, sparse.memory.loaded.end(work))
    assert made.promised == 0
    read(sparse, made, 0, 4)
    sparse.unlink(ROOT, b"a")
    assert (left(sparse), sparse.memory.loaded.pages) == (CAPACITY, 0)


def test_a_page_that_is_loaded_again_while_it_leaves_keeps_its_promise(sparse: FileSystem) -> None:
    made = sparse.make(ROOT, b"a", FILE)
    assert made.info is not None
    sparse.truncate(made, 20 * PAGE_SIZE)
    read(sparse, made, 0, 10)
    work = sparse.memory.loaded.begin_range(made.info, 0, 10)
    read(sparse, made, 3, 1)
    sparse.promising.take_back(made, sparse.memory.loaded.end(work))
    assert made.promised == sparse.memory.loaded.pages == 1


def test_nothing_is_promised_at_a_read_where_sizes_are(fs: FileSystem) -> None:
    made = fs.make(ROOT, b"a", FILE)
    fs.truncate(made, 20 * PAGE_SIZE)
    read(fs, made, 0, 20)
    unload(fs, made, 0, 20)
    assert made.promised == 20


def test_a_promise_that_nobody_made_is_found(fs: FileSystem) -> None:
    made = fs.make(ROOT, b"a", FILE)
    fs.memory.promises.make(1)
    with pytest.raises(InvariantError):
        fs.check_invariants()
    made.promised = 1
    with pytest.raises(InvariantError):
        fs.check_invariants()
    fs.promising.settle(made)


_WHICH = st.integers(0, 2)
_PAGE = st.integers(0, CAPACITY + 2)


class PromisingMachine(RuleBasedStateMachine):
    """Sizes against promises: what is refused, and what is left, can be told from the sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Image(FRAMES)
        self.fs = filesystem(self.image)
        self.inodes = [self.fs.make(ROOT, b"%d" % number, FILE) for number in range(3)]
        self.writes: list[tuple[int, int, ExitStack]] = []

    def promised(self, without: int | None = None) -> int:
        return sum(self.wanted(number) for number in range(3) if number != without)

    def wanted(self, which: int) -> int:
        """The pages of a file: at least those of its size and of its writes under way."""
        size = pages_for(self.inodes[which].size)
        return self.inodes[which].promised if self.inodes[which].writes else size

    @rule(which=_WHICH, size=st.integers(0, (CAPACITY + 2) * PAGE_SIZE))
    def truncate(self, which: int, size: int) -> None:
        fits = self.promised(without=which) + pages_for(size) <= CAPACITY
        inode, before = self.inodes[which], self.inodes[which].size
        fits = fits or pages_for(size) <= inode.promised
        try:
            self.fs.truncate(inode, size)
        except AnonfsError:
            assert not fits
            assert inode.size == before
        else:
            assert fits

    @rule(which=_WHICH, page=_PAGE, pages=st.integers(1, 9))
    def begin_write(self, which: int, page: int, pages: int) -> None:
        stack = ExitStack()
        writing = self.fs.promising.writing(self.inodes[which], page * PAGE_SIZE, pages * PAGE_SIZE)
        fits = self.promised(without=which) + page + pages <= CAPACITY
        try:
            stack.enter_context(writing)
        except AnonfsError:
            assert not fits
        else:
            assert fits or page + pages <= self.inodes[which].promised
            self.writes.append((which, page + pages, stack))

    @rule(succeeds=st.booleans(), newest=st.booleans())
    def end_write(self, succeeds: bool, newest: bool) -> None:
        if self.writes:
            which, end, stack = self.writes.pop(-1 if newest else 0)
            if succeeds:
                self.fs.written(self.inodes[which], end * PAGE_SIZE)
            stack.close()

    @rule(which=_WHICH)
    def delete(self, which: int) -> None:
        if not self.inodes[which].writes:
            self.fs.unlink(ROOT, b"%d" % which)
            self.inodes[which] = self.fs.make(ROOT, b"%d" % which, FILE)

    @invariant()
    def check(self) -> None:
        self.fs.check_invariants()
        assert self.promised() == self.fs.memory.promises.made <= CAPACITY

    def teardown(self) -> None:
        while self.writes:
            self.end_write(succeeds=False, newest=True)
        self.check()
        self.image.close()


TestPromising = PromisingMachine.TestCase


class OvercommitMachine(RuleBasedStateMachine):
    """Whatever exists or is handed out has its promise, and there is never more of it than room."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Image(FRAMES)
        self.fs = filesystem(self.image, overcommit=True)
        self.inode = self.fs.make(ROOT, b"f", FILE)
        self.fs.truncate(self.inode, 2 * CAPACITY * PAGE_SIZE)
        self.work: Unload | None = None

    @property
    def info(self) -> AnonInodeInfo:
        assert self.inode.info is not None
        return self.inode.info

    @rule(page=_PAGE, pages=st.integers(1, 9))
    def read(self, page: int, pages: int) -> None:
        with suppress(AnonfsError):
            read(self.fs, self.inode, page, pages)

    @rule(page=_PAGE, pages=st.integers(1, 9), zeros=st.booleans())
    def write(self, page: int, pages: int, zeros: bool) -> None:
        handed_out = self.fs.memory.loaded.mask(self.info, page, pages).all()
        try:
            store(self.fs, self.inode, page, pages, b"\0" if zeros else b"x")
        except AnonfsError:
            assert not handed_out, "what was handed out can be written back"
        else:
            self.fs.memory.loaded.load(self.info, page, pages, touched=False)

    @rule()
    def find_zeros(self) -> None:
        sync.swap_out(self.fs.memory, self.info, 0, 2 * CAPACITY)

    @rule(page=_PAGE, pages=st.integers(1, 9), any_cold=st.booleans())
    def begin_unload(self, page: int, pages: int, any_cold: bool) -> None:
        loaded = self.fs.memory.loaded
        if self.work is None:
            cold = any_cold and loaded.begin(pages)
            self.work = cold or loaded.begin_range(self.info, page, pages)

    @rule()
    def end_unload(self) -> None:
        if self.work is not None:
            self.fs.promising.take_back(self.inode, self.fs.memory.loaded.end(self.work))
            self.work = None

    @rule(page=_PAGE, pages=st.integers(1, 9), at_once=st.booleans())
    def punch(self, page: int, pages: int, at_once: bool) -> None:
        """Where others write what is not needed is given back some time later."""
        self.fs.punch(self.inode, page * PAGE_SIZE, pages * PAGE_SIZE)
        if at_once:
            self.fs.promising.settle(self.inode)

    @rule(pages=_PAGE)
    def truncate(self, pages: int) -> None:
        self.fs.truncate(self.inode, pages * PAGE_SIZE)
        self.fs.truncate(self.inode, 2 * CAPACITY * PAGE_SIZE)

    @invariant()
    def check(self) -> None:
        self.fs.check_invariants()
        self.fs.memory.check_invariants()
        assert self.fs.memory.promises.made <= CAPACITY

    def teardown(self) -> None:
        self.end_unload()
        self.fs.unlink(ROOT, b"f")
        self.check()
        assert self.fs.memory.promises.made == self.fs.memory.loaded.pages == 0
        self.image.close()


TestOvercommit = OvercommitMachine.TestCase
