import errno
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from anonfs.errors import AnonfsError
from anonfs.inspection import Area, Attaches, Counts, PageCounts, PageRun, Reserved, parse_lines
from anonfs.mm import Image, Memory
from anonfs.mm.sync import swap_out, write
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode
from anonfs.vm import SharedOperations, VmArea
from anonfsd._inspection import Caller, Inspection
from anonfsd._rings import Rings

OWNER, OTHER = 1000, 2000
READ_ONLY = "pages", "reserved", "pagemap", "ring", "count", "attaches"
ROOT_CALLER = Caller(0, os.getpid())


class Looked:
    """An inspection over fakes: what it looked at and what it was told to swap out."""

    def __init__(self) -> None:
        image = Image(16)
        self.image = image
        self.memory = Memory(image, SwapArea(MemoryStore(512)))
        self.filesystem = FileSystem(image, self.memory, NewInode(0o040755, 0, 0))
        self.inode = self.filesystem.make(ROOT, b"f", NewInode(0o100644, 0, 0))
        self.looks = 0
        self.swapped: list[tuple[int, int, int]] = []
        rings = cast("Rings", SimpleNamespace(look=self._look, loaded_ptes=self._loaded_ptes))
        self.inspection = Inspection(
            self.filesystem, rings, self._swap_out, self.filesystem.promising.lock
        )

    async def _look(self) -> None:
        self.looks += 1

    async def _loaded_ptes(self, inode: Inode) -> int:
        assert self.looks, "the ring is read before it was looked at"
        return inode.names

    def _swap_out(self, inode: Inode, first: int, last: int) -> None:
        self.swapped.append((inode.ino, first, last))

    def get(self, name: str, uid: int = 0, inode: Inode | None = None) -> str:
        full = b"user.anonfs." + name.encode()
        value: bytes = _run(self.inspection.get, inode or self.inode, full, uid)
        return value.decode()

    def set(
        self, name: str, value: bytes, inode: Inode | None = None, caller: Caller = ROOT_CALLER
    ) -> None:
        full = b"user.anonfs." + name.encode()
        _run(self.inspection.set, inode or self.inode, full, value, caller)

    def map(self, pid: int, uid: int, start: int = 0x1000, offset: int = 0) -> None:
        SharedOperations().open(
            VmArea(
                pid=pid,
                uid=uid,
                inode=self.inode,
                start=start,
                end=start + PAGE_SIZE,
                offset=offset,
                perms="rw-s",
            )
        )


def _run(call: Callable[..., Coroutine[Any, Any, Any]], *arguments: object) -> Any:
    return trio.run(lambda: call(*arguments))


@pytest.fixture
def looked() -> Iterator[Looked]:
    looked = Looked()
    yield looked
    looked.memory.check_invariants()
    looked.image.close()


def _refused(call: Callable[[], object], number: int) -> None:
    with pytest.raises(AnonfsError) as error:
        call()
    assert error.value.errno == number


def test_only_files_have_them(looked: Looked) -> None:
    root = looked.filesystem.inode(ROOT)
    fifo = looked.filesystem.make(ROOT, b"fifo", NewInode(0o010644, 0, 0))
    for inode in (root, fifo):
        assert looked.inspection.names(inode) == []
        _refused(partial(looked.get, "kind", inode=inode), errno.ENODATA)
        _refused(partial(looked.set, "swapout", b"all", inode), errno.EPERM)
    names = {name.decode() for name in looked.inspection.names(looked.inode)}
    short = *READ_ONLY, "kind", "parent", "front", "reap", "lock", "swapout"
    assert names == {f"user.anonfs.{name}" for name in short}


def test_what_it_owns() -> None:
    assert Inspection.owns(b"user.anonfs.")
    assert Inspection.owns(b"user.anonfs.anything")
    for name in (b"user.anonfs", b"user.a", b"trusted.anonfs.kind", b"", b"USER.ANONFS.kind"):
        assert not Inspection.owns(name)


def test_unknown_and_write_only_names(looked: Looked) -> None:
    for name in ("", "nonsense", "kind.x", "user.anonfs.kind"):
        _refused(partial(looked.get, name), errno.ENODATA)
    _refused(lambda: looked.get("swapout"), errno.EPERM)
    for name in (*READ_ONLY, "parent", "front", "nonsense", ""):
        _refused(partial(looked.set, name, b"all"), errno.EPERM)


def test_reserved(looked: Looked) -> None:
    assert looked.get("reserved") == "pages=0"
    looked.filesystem.truncate(looked.inode, 10 * PAGE_SIZE - 5)
    assert Reserved.parse(looked.get("reserved")) == Reserved(10)


def test_pages(looked: Looked) -> None:
    info = looked.inode.info
    assert info is not None
    write(looked.memory, info, PAGE_SIZE, b"x" * 4 * PAGE_SIZE)
    looked.filesystem.truncate(looked.inode, 10 * PAGE_SIZE - 5)
    swap_out(looked.memory, info, 2, 3)
    assert PageCounts.parse(looked.get("pages")) == PageCounts(10, 6, 2, 2)
    lines, complete = parse_lines(looked.get("pagemap"))
    assert complete
    assert [PageRun.parse(line) for line in lines] == [
        PageRun(0, 0, "none"),
        PageRun(1, 1, "in_core"),
        PageRun(2, 3, "on_swap"),
        PageRun(4, 4, "in_core"),
        PageRun(5, 9, "none"),
    ]
    assert looked.looks == 0, "pages ask nothing of /proc"


def test_an_empty_file(looked: Looked) -> None:
    assert PageCounts.parse(looked.get("pages")) == PageCounts(0, 0, 0, 0)
    assert looked.get("pagemap") == looked.get("ring") == ""
    assert looked.get("kind") == "shared"


def test_memory_is_said_to_be_private_before_anything_is_in_it(looked: Looked) -> None:
    fs = looked.filesystem
    fresh = fs.make_nameless(ROOT, NewInode(0o100600, 1000, 1000))
    fs.open(fresh)
    named = fs.make(ROOT, b"named", NewInode(0o100600, 1000, 1000))
    for inode, value, uid, number in (
        (fresh, b"shared", 1000, errno.EINVAL),
        (fresh, b"private", 1001, errno.EPERM),
        (named, b"private", 1000, errno.EPERM),
    ):
        _refused(partial(looked.set, "kind", value, inode, Caller(uid, 0)), number)
    looked.set("kind", b"private\n", fresh, Caller(1000, 0))
    assert looked.get("kind", inode=fresh) == "private"
    fs.truncate(fresh, 1)
    _refused(partial(looked.set, "kind", b"private", fresh, Caller(1000, 0)), errno.EINVAL)
    frozen = fs.make_nameless(ROOT, NewInode(0o100600, 1000, 1000))
    fs.open(frozen)
    looked.set("kind", b"frozen", frozen, Caller(1000, 0))
    assert looked.get("kind", inode=frozen) == "frozen"
    with pytest.raises(AnonfsError) as refused:
        fs.truncate(frozen, 1)
    assert refused.value.errno == errno.EPERM


def test_addresses_are_for_root_and_the_owner(looked: Looked) -> None:
    looked.map(7, OWNER)
    looked.map(8, OTHER, offset=PAGE_SIZE)
    everything = [
        Area(7, 0x1000, 0x2000, 0, "rw-s"),
        Area(8, 0x1000, 0x2000, PAGE_SIZE, "rw-s"),
    ]
    hidden = [
        Area(7, None, None, 0, "rw-s"),
        Area(8, None, None, PAGE_SIZE, "rw-s"),
    ]

    def ring(uid: int) -> list[Area]:
        return [Area.parse(line) for line in parse_lines(looked.get("ring", uid))[0]]

    assert ring(0) == everything
    assert ring(OWNER) == [everything[0], hidden[1]]
    assert ring(OTHER) == [hidden[0], everything[1]]
    assert ring(3000) == hidden
    assert looked.looks == 4, "each answer is of its moment"


def test_a_ring_that_an_attribute_cannot_hold(looked: Looked) -> None:
    for number in range(5000):
        looked.map(100_000, 0, start=0x7F00_0000_0000 + number * PAGE_SIZE)
    text = looked.get("ring")
    lines, complete = parse_lines(text)
    assert len(text) <= 65536
    assert not complete
    assert len(lines) > 1000
    assert Counts.parse(looked.get("count")).areas == 5000


def test_attaches(looked: Looked) -> None:
    assert looked.get("attaches") == "nattch=0 lpid=0 atime=0 dtime=0"
    begun = int(time.time())
    looked.map(7, OWNER)
    looked.map(8, OWNER)
    attaches = Attaches.parse(looked.get("attaches"))
    assert looked.looks == 2
    assert (attaches.nattch, attaches.lpid, attaches.dtime) == (2, 8, 0)
    assert begun <= attaches.atime <= time.time()


def test_counts(looked: Looked) -> None:
    inode = looked.inode
    looked.filesystem.link(inode.ino, ROOT, b"second")
    looked.filesystem.open(inode)
    looked.filesystem.remember(inode)
    looked.map(7, OWNER)
    assert Counts.parse(looked.get("count")) == Counts(
        dentry=5, areas=1, opens=1, links=2, loaded_ptes=2
    )
    assert looked.looks == 1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"ALL",
        b"all of it",
        b"0",
        b"0-",
        b"-0",
        b"-1-0",
        b"1-0",
        b"0-3",
        b"3-3",
        b"0 - 1",
        b"0x0-0x1",
        b"0-1-2",
        b"0-1\n0-1",
        b"0-" + b"9" * 16,
        b"0-" + b"9" * 60_000,
        b"\xff-\xff",
        "\N{ARABIC-INDIC DIGIT ZERO}-\N{ARABIC-INDIC DIGIT ONE}".encode(),
    ],
)
def test_ranges_that_are_none(looked: Looked, value: bytes) -> None:
    looked.filesystem.truncate(looked.inode, 3 * PAGE_SIZE)
    _refused(lambda: looked.set("swapout", value), errno.EINVAL)
    assert looked.swapped == []


@pytest.mark.parametrize(
    ("value", "pages"),
    [(b"all", (0, 2)), (b"all\n", (0, 2)), (b"0-0", (0, 0)), (b" 1-2 ", (1, 2)), (b"00-2", (0, 2))],
)
def test_ranges(looked: Looked, value: bytes, pages: tuple[int, int]) -> None:
    looked.filesystem.truncate(looked.inode, 2 * PAGE_SIZE + 1)
    looked.set("swapout", value)
    assert looked.swapped == [(looked.inode.ino, *pages)]


def test_nothing_to_swap_out_of_an_empty_file(looked: Looked) -> None:
    looked.set("swapout", b"all")
    assert looked.swapped == []
    _refused(lambda: looked.set("swapout", b"0-0"), errno.EINVAL)


def test_an_error_of_swap_out_is_passed_on(looked: Looked) -> None:
    def fail(_inode: Inode, _first: int, _last: int) -> None:
        raise AnonfsError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    looked.filesystem.truncate(looked.inode, PAGE_SIZE)
    rings = cast("Rings", SimpleNamespace())
    inspection = Inspection(looked.filesystem, rings, fail, looked.filesystem.promising.lock)
    call = lambda: _run(inspection.set, looked.inode, b"user.anonfs.swapout", b"all", ROOT_CALLER)
    _refused(call, errno.ENOSPC)


def test_reap_is_for_root_and_the_owner(looked: Looked) -> None:
    assert looked.get("reap") == "never"
    _refused(lambda: looked.set("reap", b"last-area", caller=Caller(OTHER, 1)), errno.EPERM)
    looked.filesystem.set_attributes(looked.inode, uid=OWNER)
    looked.set("reap", b" last-area\n", caller=Caller(OWNER, 1))
    assert looked.get("reap", OTHER) == "last-area"
    assert looked.looks == 1
    remove = looked.inspection.remove
    for name, uid in (("reap", OTHER), ("ring", 0)):
        full = b"user.anonfs." + name.encode()
        _refused(lambda n=full, u=uid: _run(remove, looked.inode, n, Caller(u, 1)), errno.EPERM)  # type: ignore[misc]
    _run(remove, looked.inode, b"user.anonfs.reap", Caller(OWNER, 1))
    assert looked.get("reap") == "never"


def test_last_attach_means_the_group_of_who_writes_it_or_says(looked: Looked) -> None:
    looked.set("reap", b"last-attach")
    assert looked.get("reap") == f"last-attach {os.getpgrp()}"
    looked.set("reap", b"last-attach 77")
    assert looked.get("reap") == "last-attach 77"
    unseen = Caller(0, 0)
    _refused(lambda: looked.set("reap", b"last-attach", caller=unseen), errno.EINVAL)
    for bad in (b"", b"last", b"never 1", b"last-attach 0", b"last-attach -1", b"\xff"):
        _refused(lambda value=bad: looked.set("reap", value), errno.EINVAL)  # type: ignore[misc]


def test_lock_is_for_root_and_the_owner_and_as_far_as_there_are_frames(looked: Looked) -> None:
    looked.filesystem.set_attributes(looked.inode, uid=OWNER)
    assert looked.get("lock") == "off"
    _refused(lambda: looked.set("lock", b"on", caller=Caller(OTHER, 1)), errno.EPERM)
    looked.set("lock", b" on\n", caller=Caller(OWNER, 1))
    assert looked.get("lock", OTHER) == "on"
    _refused(lambda: looked.set("lock", b"off", caller=Caller(OTHER, 1)), errno.EPERM)
    looked.set("lock", b"off", caller=Caller(OWNER, 1))
    assert looked.get("lock") == "off"
    for bad in (b"", b"ON", b"1", b"on off", b"\xff"):
        _refused(lambda value=bad: looked.set("lock", value), errno.EINVAL)  # type: ignore[misc]
    looked.filesystem.truncate(looked.inode, PAGE_SIZE)
    _refused(lambda: looked.set("lock", b"on"), errno.ENOMEM)
    assert looked.get("lock") == "off"
    looked.filesystem.truncate(looked.inode, 0)
    looked.set("lock", b"on")
    full = b"user.anonfs.lock"
    remove = looked.inspection.remove
    _refused(lambda: _run(remove, looked.inode, full, Caller(OTHER, 1)), errno.EPERM)
    _run(remove, looked.inode, full, Caller(0, 1))
    assert looked.get("lock") == "off"
