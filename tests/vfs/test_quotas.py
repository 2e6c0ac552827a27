"""Sizes stay within the limits of the mount, of a file and of each user."""

import errno
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anonfs.errors import AnonfsError, InvariantError
from anonfs.limits import Limits, Usage
from anonfs.mm import Image, Memory, sync
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE, pages_for
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode, rename

ANN, BOB = 1000, 1001
FRAMES = 384  # of which (384 - 256) // 4 = 32 can be locked
ROOM = 500

LIMITS = Limits(
    size=100 * PAGE_SIZE,
    segment=40 * PAGE_SIZE,
    per_user=60 * PAGE_SIZE,
    files_per_user=4,
    locked_per_user=20 * PAGE_SIZE,
)


def filesystem(image: Image, *, overcommit: bool = False, limits: Limits = LIMITS) -> FileSystem:
    memory = Memory(image, SwapArea(MemoryStore(ROOM + 256 - FRAMES)))
    root = NewInode(stat.S_IFDIR | 0o755, 0, 0)
    return FileSystem(image, memory, root, overcommit=overcommit, limits=limits)


@pytest.fixture(params=[False, True], ids=["reserve", "overcommit"])
def fs(request: pytest.FixtureRequest) -> Iterator[FileSystem]:
    with closing(Image(FRAMES)) as image:
        made = filesystem(image, overcommit=request.param)
        yield made
        made.check_invariants()
        made.memory.check_invariants()


def make(fs: FileSystem, name: bytes, uid: int, pages: int = 0) -> Inode:
    inode = fs.make(ROOT, name, NewInode(stat.S_IFREG | 0o644, uid, uid))
    fs.truncate(inode, pages * PAGE_SIZE)
    return inode


def store(fs: FileSystem, inode: Inode, page: int, pages: int) -> None:
    """What a WRITE does."""
    assert inode.info is not None
    with fs.promising.writing(inode, page * PAGE_SIZE, pages * PAGE_SIZE):
        sync.write(fs.memory, inode.info, page * PAGE_SIZE, b"x" * pages * PAGE_SIZE)
        fs.written(inode, (page + pages) * PAGE_SIZE)


def refused(number: int, call: object, *arguments: object, **changes: int) -> None:
    with pytest.raises(AnonfsError) as caught:
        call(*arguments, **changes)  # type: ignore[operator]
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


def test_a_file_and_a_user_and_the_mount_have_their_limits(fs: FileSystem) -> None:
    a = make(fs, b"a", ANN, 40)
    refused(errno.ENOSPC, fs.truncate, a, 40 * PAGE_SIZE + 1)
    refused(errno.ENOSPC, store, fs, a, 40, 1)
    b = make(fs, b"b", ANN, 20)
    refused(errno.EDQUOT, fs.truncate, b, 20 * PAGE_SIZE + 1)
    refused(errno.EDQUOT, store, fs, b, 20, 1)
    assert (a.size, b.size) == (40 * PAGE_SIZE, 20 * PAGE_SIZE)
    c = make(fs, b"c", BOB, 40)
    assert (fs.promising.capacity, fs.promising.free) == (100, 0)
    d = make(fs, b"d", BOB)
    refused(errno.ENOSPC, fs.truncate, d, 1)
    refused(errno.ENOSPC, fs.truncate, make(fs, b"e", 0), 1)
    fs.truncate(c, 7)
    store(fs, d, 0, 39)
    assert fs.quotas.users == {
        0: Usage(0, 2),
        ANN: Usage(60, 2),
        BOB: Usage(40, 2),
    }


def test_root_is_exempt_from_what_users_have_but_not_from_the_rest(fs: FileSystem) -> None:
    files = [make(fs, b"%d" % number, 0, 33) for number in range(3)]
    assert fs.quotas.users[0] == Usage(99, 4)
    fs.truncate(files[0], 34 * PAGE_SIZE)
    refused(errno.ENOSPC, fs.truncate, files[0], 35 * PAGE_SIZE)
    make(fs, b"more", 0)


def test_so_is_the_owner_of_the_mount() -> None:
    with closing(Image(FRAMES)) as image:
        memory = Memory(image, SwapArea(MemoryStore(ROOM)))
        root = NewInode(stat.S_IFDIR | 0o755, ANN, 0)
        fs = FileSystem(image, memory, root, limits=LIMITS)
        make(fs, b"a", ANN, 40)
        make(fs, b"b", ANN, 40)
        fs.check_invariants()


def test_files_of_all_types_are_counted_until_they_are_deleted(fs: FileSystem) -> None:
    kinds = {b"l": stat.S_IFLNK, b"d": stat.S_IFDIR, b"p": stat.S_IFIFO, b"f": stat.S_IFREG}
    for name, kind in kinds.items():
        fs.make(ROOT, name, NewInode(kind | 0o644, ANN, 0, target=b"t"))
    one_more = NewInode(stat.S_IFLNK | 0o644, ANN, 0, target=b"t" * 1000)
    refused(errno.EDQUOT, fs.make, ROOT, b"x", one_more)
    fs.link(fs.lookup(ROOT, b"f").ino, ROOT, b"g")
    opened = fs.lookup(ROOT, b"f")
    fs.truncate(opened, 3 * PAGE_SIZE)
    fs.open(opened)
    fs.unlink(ROOT, b"f")
    fs.unlink(ROOT, b"g")
    refused(errno.EDQUOT, fs.make, ROOT, b"x", one_more)
    assert fs.quotas.users[ANN] == Usage(3, 4)
    fs.release(opened)
    fs.rmdir(ROOT, b"d")
    fs.make(ROOT, b"x", one_more)
    rename(fs, ROOT, b"x", ROOT, b"l")
    assert fs.quotas.users[ANN] == Usage(0, 2)


def test_a_chown_moves_all_of_it_or_nothing(fs: FileSystem) -> None:
    a = make(fs, b"a", ANN, 40)
    b = make(fs, b"b", BOB, 21)
    before = a.ctime
    refused(errno.EDQUOT, fs.set_attributes, a, uid=BOB, mode=0o600)
    assert (a.uid, a.mode & 0o777, a.ctime) == (ANN, 0o644, before)
    fs.truncate(b, 20 * PAGE_SIZE)
    fs.set_attributes(a, uid=BOB, mode=0o600)
    assert fs.quotas.users == {0: Usage(0, 1), BOB: Usage(60, 2)}
    refused(errno.EDQUOT, fs.truncate, b, 21 * PAGE_SIZE)
    fs.set_attributes(a, uid=BOB)
    fs.set_attributes(a, uid=0)
    fs.truncate(b, 40 * PAGE_SIZE)
    for number in range(3):
        make(fs, b"f%d" % number, BOB)
    refused(errno.EDQUOT, fs.set_attributes, fs.inode(ROOT), uid=BOB)


def test_what_is_written_counts_while_it_lasts_for_whoever_owns_it(fs: FileSystem) -> None:
    a, b = make(fs, b"a", ANN), make(fs, b"b", ANN, 40)
    with ExitStack() as stack:
        stack.enter_context(fs.promising.writing(a, 0, 20 * PAGE_SIZE))
        refused(errno.EDQUOT, store, fs, a, 20, 1)
        fs.set_attributes(a, uid=BOB)
        fs.truncate(a, 5)
        fs.check_invariants()
        assert fs.quotas.users[BOB] == Usage(20, 1)
    assert (fs.quotas.users[ANN], fs.quotas.users[BOB]) == (Usage(40, 1), Usage(1, 1))
    fs.truncate(b, 0)


def test_what_is_promised_to_nobody_is_charged_to_nobody() -> None:
    with closing(Image(FRAMES)) as image:
        fs = filesystem(image, limits=Limits(per_user=2 * ROOM * PAGE_SIZE))
        a = make(fs, b"a", ANN, ROOM)
        refused(errno.ENOSPC, fs.truncate, a, (ROOM + 1) * PAGE_SIZE)
        refused(errno.ENOSPC, store, fs, a, ROOM, 1)
        assert fs.quotas.users[ANN] == Usage(ROOM, 1)
        fs.check_invariants()


def test_what_is_locked_has_a_limit_of_its_own(fs: FileSystem) -> None:
    a, b = make(fs, b"a", ANN), make(fs, b"b", BOB)
    store(fs, a, 0, 20)
    store(fs, b, 0, 12)
    fs.promising.lock(a)
    refused(errno.EDQUOT, store, fs, a, 20, 1)
    fs.promising.lock(b)
    refused(errno.ENOSPC, store, fs, b, 12, 1)
    c = make(fs, b"c", ANN)
    store(fs, c, 0, 1)
    refused(errno.ENOMEM, fs.promising.lock, c)
    refused(errno.EDQUOT, fs.set_attributes, a, uid=BOB)
    assert fs.quotas.users[ANN] == Usage(21, 2, 20)
    fs.truncate(a, 19 * PAGE_SIZE)
    fs.promising.lock(c)
    fs.promising.unlock(a)
    fs.unlink(ROOT, b"b")
    assert fs.quotas.users == {0: Usage(0, 1), ANN: Usage(20, 2, 1)}
    fs.set_attributes(c, uid=BOB)
    assert fs.quotas.users[BOB] == Usage(1, 1, 1)


def test_a_charge_that_nobody_made_is_found(fs: FileSystem) -> None:
    made = make(fs, b"a", ANN, 3)
    made.charged = 4
    with pytest.raises(InvariantError):
        fs.check_invariants()
    made.charged, fs.quotas.pages = 3, 4
    with pytest.raises(InvariantError):
        fs.check_invariants()
    fs.quotas.pages = 3


_WHO = st.sampled_from([0, ANN, BOB])
_WHICH = st.integers(0, 5)
_PAGES = st.one_of(st.sampled_from([12, 20, 21, 32, 33, 40, 41]), st.integers(0, 41))


class QuotaMachine(RuleBasedStateMachine):
    """What is refused can be told from the sizes and owners of the files that there are."""

    overcommit = False

    def __init__(self) -> None:
        super().__init__()
        self.image = Image(FRAMES)
        self.fs = filesystem(self.image, overcommit=self.overcommit)
        self.named: dict[int, Inode] = {}
        self.opened: list[Inode] = []

    def there(self) -> list[Inode]:
        """All files, each once."""
        return list({inode.ino: inode for inode in [*self.named.values(), *self.opened]}.values())

    def expected(self, inode: Inode | None, uid: int, pages: int) -> str | None:
        """What is said to ``inode`` of user ``uid`` having so many pages; None is a new one."""
        others = [other for other in self.there() if other is not inode]
        of_user = [pages_for(other.size) for other in others if other.uid == uid]
        of_all = [pages_for(other.size) for other in others]
        if uid and (sum(of_user) + pages > 60 or len(of_user) + 1 > 4):
            return "EDQUOT"
        if sum(of_all) + pages > 100:
            return "ENOSPC"
        return self.expected_of_lock(inode, uid, pages) if inode and inode.locked else None

    def expected_of_lock(self, inode: Inode, uid: int, pages: int) -> str | None:
        """What is said to so many locked pages of ``inode``, which are of user ``uid``."""
        others = [other for other in self.there() if other is not inode and other.locked]
        of_user = [pages_for(other.size) for other in others if other.uid == uid]
        if uid and sum(of_user) + pages > 20:
            return "EDQUOT"
        of_all = [pages_for(other.size) for other in others]
        return "ENOSPC" if sum(of_all) + pages > 32 else None

    def outcome(self, call: object, *arguments: object, **changes: int) -> str | None:
        try:
            call(*arguments, **changes)  # type: ignore[operator]
        except AnonfsError as error:
            return error.name
        return None

    @rule(which=_WHICH, uid=_WHO, pages=_PAGES)
    def make(self, which: int, uid: int, pages: int) -> None:
        if which not in self.named:
            new = NewInode(stat.S_IFREG | 0o644, uid, 0)
            expected = self.expected(None, uid, 0)
            assert self.outcome(self.fs.make, ROOT, b"%d" % which, new) == expected
            if expected is None:
                self.named[which] = self.fs.lookup(ROOT, b"%d" % which)
                self.truncate(which, pages)

    def growth(self, inode: Inode, pages: int) -> str | None:
        if pages <= pages_for(inode.size):
            return None
        return "ENOSPC" if pages > 40 else self.expected(inode, inode.uid, pages)

    @rule(which=_WHICH, pages=_PAGES)
    def truncate(self, which: int, pages: int) -> None:
        if (inode := self.named.get(which)) is not None:
            before, expected = inode.size, self.growth(inode, pages)
            assert self.outcome(self.fs.truncate, inode, pages * PAGE_SIZE) == expected
            assert inode.size == (before if expected else pages * PAGE_SIZE)

    @rule(which=_WHICH, page=_PAGES, pages=st.integers(1, 5))
    def write(self, which: int, page: int, pages: int) -> None:
        if (inode := self.named.get(which)) is not None:
            expected = self.growth(inode, page + pages)
            assert self.outcome(store, self.fs, inode, page, pages) == expected

    @rule(which=_WHICH, uid=_WHO)
    def chown(self, which: int, uid: int) -> None:
        if (inode := self.named.get(which)) is not None and inode.uid != uid:
            expected = self.expected(inode, uid, pages_for(inode.size))
            assert self.outcome(self.fs.set_attributes, inode, uid=uid) == expected

    @precondition(lambda self: not self.overcommit)
    @rule(which=_WHICH)
    def lock(self, which: int) -> None:
        if (inode := self.named.get(which)) is not None and not inode.locked:
            refused = self.expected_of_lock(inode, inode.uid, pages_for(inode.size))
            expected = "ENOMEM" if refused else None
            assert self.outcome(self.fs.promising.lock, inode) == expected
            assert bool(inode.locked) == (expected is None)

    @rule(which=_WHICH)
    def unlock(self, which: int) -> None:
        if which in self.named:
            self.fs.promising.unlock(self.named[which])

    @rule(which=_WHICH)
    def open(self, which: int) -> None:
        if which in self.named:
            self.fs.open(self.named[which])
            self.opened.append(self.named[which])

    @rule(which=_WHICH)
    def unlink(self, which: int) -> None:
        if self.named.pop(which, None) is not None:
            self.fs.unlink(ROOT, b"%d" % which)

    @rule(which=_WHICH, over=_WHICH)
    def rename(self, which: int, over: int) -> None:
        if which != over and which in self.named:
            rename(self.fs, ROOT, b"%d" % which, ROOT, b"%d" % over)
            self.named[over] = self.named.pop(which)

    @rule()
    def release(self) -> None:
        if self.opened:
            self.fs.release(self.opened.pop(0))

    @invariant()
    def check(self) -> None:
        self.fs.check_invariants()
        files = Counter(inode.uid for inode in self.there())
        files[0] += 1
        pages, locked = Counter[int](), Counter[int]()
        for inode in self.there():
            pages[inode.uid] += pages_for(inode.size)
            locked[inode.uid] += pages_for(inode.size) if inode.locked else 0
        assert self.fs.quotas.users == {
            uid: Usage(pages[uid], files[uid], locked[uid]) for uid in files
        }
        assert self.fs.promising.free == 100 - pages.total()

    def teardown(self) -> None:
        while self.opened:
            self.release()
        for which in list(self.named):
            self.unlink(which)
        self.check()
        self.fs.memory.check_invariants()
        self.image.close()


class OvercommitQuotaMachine(QuotaMachine):
    """Sizes are free of promises, and within the limits all the same."""

    overcommit = True


_SETTINGS = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestQuotas = QuotaMachine.TestCase
TestQuotas.settings = _SETTINGS
TestOvercommitQuotas = OvercommitQuotaMachine.TestCase
TestOvercommitQuotas.settings = _SETTINGS
