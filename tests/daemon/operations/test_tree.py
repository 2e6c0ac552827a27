"""The tree `.anonfs/`: found by name, read in any way, changed in none."""

import os
import select
import stat
from types import SimpleNamespace
from typing import Any

import pyfuse3
import pytest

from anonfs.inspection import PageCounts
from anonfs.meminfo import MemInfo, parse_swaps
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT
from anonfsd._operations import Operations
from anonfsd._tree import Tree
from anonfsd._tree_operations import TreeOperations
from tests.daemon.operations.fakes import Broken
from tests.daemon.operations.mount import FRAMES, Mount
from tests.daemon.operations.requests import (
    CTX,
    MOST,
    NOWHERE,
    USER,
    entry_attributes,
    setattr_fields,
)
from tests.daemon.operations.test_directories import Listing


def find(mount: Mount, *names: str) -> Any:
    """The attributes of a node, or the name of an errno."""
    found: Any = None
    number: int = ROOT
    for name in (".anonfs", *names):
        found = mount.call("lookup", number, name.encode(), CTX)
        if isinstance(found, str):
            return found
        number = found.st_ino
    return found


def read(mount: Mount, *names: str, ctx: Any = CTX) -> str:
    fh = mount.call("open", find(mount, *names).st_ino, os.O_RDONLY, ctx).fh
    text = bytes(mount.call("read", fh, 0, 1 << 20)).decode()
    mount.call("release", fh)
    return text


def numbers(mount: Mount) -> tuple[int, int, int]:
    """The top, a file of it, and a file of an inode."""
    file = str(mount.inos[b"file"])
    nodes = find(mount), find(mount, "meminfo"), find(mount, "inodes", file, "pages")
    return tuple(node.st_ino for node in nodes)


def test_the_root_does_not_list_it(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Listing(monkeypatch, 100)
    listing.read(mount, mount.call("opendir", ROOT, CTX), 0)
    assert b".anonfs" not in listing.names
    assert stat.S_ISDIR(find(mount).st_mode)


@pytest.mark.parametrize("room", [1, 3, 100])
def test_listings(mount: Mount, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    file = str(mount.inos[b"file"])
    read_only = ["kind", "pages", "reserved", "pagemap", "ring", "count", "attaches"]
    expected = {
        (): ["meminfo", "swaps", "inodes", "events", "socket", "limits"],
        ("inodes",): [file],
        ("inodes", file): ["name", *read_only, "reap", "lock", "parent", "front"],
    }
    listing = Listing(monkeypatch, room)
    for names, entries in expected.items():
        fh = mount.call("opendir", find(mount, *names).st_ino, CTX)
        found, start = [], 0
        while listing.read(mount, fh, start) is None and listing.names:
            found += listing.names
            start = listing.next
        assert [name.decode() for name in found] == [".", "..", *entries]
        for start in (100, 1 << 62, MOST):
            assert listing.read(mount, fh, start) is None
            assert not listing.names
        assert mount.call("fsyncdir", fh, True) is None
        assert mount.call("releasedir", fh) is None
        assert mount.call("releasedir", fh) == "EBADF"


def test_names_that_are_not_there(mount: Mount) -> None:
    file, directory = str(mount.inos[b"file"]), str(mount.inos[b"dir"])
    for names in (
        ("x",),
        ("",),
        ("inodes", "0"),
        ("inodes", f"0{file}"),
        ("inodes", f"+{file}"),
        ("inodes", f" {file}"),
        ("inodes", "\N{ARABIC-INDIC DIGIT FIVE}"),
        ("inodes", directory),
        ("inodes", str(NOWHERE)),
        ("inodes", "9" * 16),
        ("inodes", "9" * 300),
        ("inodes", file, "swapout"),
        ("inodes", file, "0"),
    ):
        assert find(mount, *names) == "ENOENT", names
    assert find(mount, "meminfo", "x") == "ENOTDIR"


def test_what_the_files_show(mount: Mount) -> None:
    mount.write(mount.open(), 0, b"x" * 5 * PAGE_SIZE)
    info = MemInfo.parse(read(mount, "meminfo"))
    assert (info.budget, info.frames) == (FRAMES * PAGE_SIZE, 5 * PAGE_SIZE)
    assert (info.frames_used, info.promised) == (5 * PAGE_SIZE, 5 * PAGE_SIZE)
    assert (info.loaded, info.cost) == (5 * PAGE_SIZE, 10 * PAGE_SIZE)
    assert info.inodes == 5
    assert info.areas == 0
    (area,) = parse_swaps(read(mount, "swaps"))
    assert area.path is None
    assert area.size == info.swap_total
    file = str(mount.inos[b"file"])
    pages = PageCounts.parse(read(mount, "inodes", file, "pages"))
    assert pages == PageCounts(5, 0, 5, 0)
    assert read(mount, "inodes", file, "kind") == "shared\n"
    assert read(mount, "inodes", file, "pagemap") == "0-4 in_core\n"
    assert read(mount, "inodes", file, "ring") == ""


def test_a_snapshot_for_each_open(mount: Mount) -> None:
    node = find(mount, "inodes", str(mount.inos[b"file"]), "pages").st_ino
    fh = mount.call("open", node, os.O_RDONLY, CTX).fh
    mount.write(mount.open(), 0, b"x" * PAGE_SIZE)
    before = b"total=0 none=0 in_core=0 on_swap=0 front=0\n"
    assert mount.call("read", fh, 0, 5) == before[:5]
    assert mount.call("read", fh, 5, 1000) == before[5:]
    for offset, size in ((1000, 5), (-1, 5), (5, -1), (MOST, 1), (5, 0)):
        assert mount.call("read", fh, offset, size) == b""
    assert mount.call("read", fh, 0, 1000) == b"total=1 none=0 in_core=1 on_swap=0 front=0\n"
    assert mount.call("flush", fh) is mount.call("fsync", fh, True) is None
    assert mount.call("release", fh) is None
    for call in (("flush", fh), ("fsync", fh, True), ("release", fh)):
        assert mount.call(*call) == "EBADF"


def test_an_inode_that_is_gone(mount: Mount) -> None:
    ino = mount.inos[b"file"]
    node = find(mount, "inodes", str(ino), "pages").st_ino
    fh = mount.call("open", node, os.O_RDONLY, CTX).fh
    mount.call("unlink", ROOT, b"file", CTX)
    assert mount.call("read", fh, 0, 6) == b"total="
    assert mount.call("poll", node, fh, None, CTX) & select.POLLPRI
    assert mount.call("read", fh, 0, 6) == "ESTALE"
    assert mount.call("read", fh, 1, 5) == b"otal="
    assert mount.call("getattr", node, CTX) == "ESTALE"
    assert mount.call("open", node, os.O_RDONLY, CTX) == "ESTALE"
    # Whoever gets the number next is not the one that was opened.
    assert mount.call("mknod", ROOT, b"next", stat.S_IFREG | 0o600, 0, CTX).st_ino == ino
    assert mount.call("read", fh, 0, 6) == "ESTALE"
    mount.call("release", fh)


def test_nothing_can_be_changed(mount: Mount) -> None:
    top, meminfo, pages = numbers(mount)
    file = mount.inos[b"file"]
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC):
        assert mount.call("open", meminfo, flags, CTX) == "EPERM"
    for number in (top, meminfo, pages):
        fields = setattr_fields(mode=True)
        changed = mount.call("setattr", number, entry_attributes(), fields, None, CTX)
        assert changed == "EPERM"
        assert mount.call("link", number, ROOT, b"x", CTX) == "EPERM"
        assert mount.call("setxattr", number, b"user.x", b"y", CTX) == "EPERM"
        assert mount.call("removexattr", number, b"user.x", CTX) == "EPERM"
        assert mount.call("getxattr", number, b"user.anonfs.kind", CTX) == "ENODATA"
        assert mount.call("listxattr", number, CTX) == []
    for parent, name, answer in ((top, b"x", "EPERM"), (ROOT, b".anonfs", "EEXIST")):
        assert mount.call("create", parent, name, 0o600, os.O_RDWR, CTX) == answer
        assert mount.call("mknod", parent, name, stat.S_IFREG | 0o600, 0, CTX) == answer
        assert mount.call("mkdir", parent, name, 0o700, CTX) == answer
        assert mount.call("symlink", parent, name, b"x", CTX) == answer
        assert mount.call("link", file, parent, name, CTX) == answer
        for flags in range(3):
            assert mount.call("rename", ROOT, b"file", parent, name, flags, CTX) == answer
            assert mount.call("rename", parent, name, ROOT, b"x", flags, CTX) == "EPERM"
        assert mount.call("unlink", parent, name, CTX) == "EPERM"
        assert mount.call("rmdir", parent, name, CTX) == "EPERM"
    assert mount.call("mkdir", mount.inos[b"dir"], b".anonfs", 0o700, CTX).st_ino


def test_forgetting_nodes_disturbs_nothing(mount: Mount) -> None:
    mount.call("forget", [(number, 3) for number in numbers(mount)])
    assert mount.call("getattr", numbers(mount)[2], CTX).st_ino == numbers(mount)[2]


@pytest.mark.parametrize("number", [1 << 62 | 7, 1 << 62 | 255, (1 << 63) - 1, 1 << 62 | 2 << 40])
def test_numbers_of_no_node(mount: Mount, number: int) -> None:
    assert Tree.owns(number)
    for call in (("getattr", number, CTX), ("open", number, 0, CTX), ("opendir", number, CTX)):
        assert mount.call(*call) == "ESTALE"


def test_kinds_of_nodes(mount: Mount) -> None:
    top, meminfo, _ = numbers(mount)
    assert mount.call("open", top, os.O_RDONLY, CTX) == "EISDIR"
    assert mount.call("opendir", meminfo, CTX) == "ENOTDIR"


@pytest.mark.parametrize(
    ("mode", "shown"), [(0o600, 0o400), (0o644, 0o444), (0o060, 0o040), (0o222, 0), (0o4755, 0o444)]
)
def test_who_may_read_is_who_may_read_the_inode(mount: Mount, mode: int, shown: int) -> None:
    ino = mount.inos[b"file"]
    mount.set_attributes(ino, mode=mode, uid=7, gid=8)
    found = find(mount, "inodes", str(ino), "ring")
    assert (found.st_mode, found.st_uid, found.st_gid) == (stat.S_IFREG | shown, 7, 8)
    assert (found.entry_timeout, found.attr_timeout) == (0, 0)


def test_a_name_that_not_everybody_can_reach(mount: Mount) -> None:
    directory = mount.inos[b"dir"]
    made = mount.call("mknod", directory, b"in", stat.S_IFREG | 0o644, 0, USER).st_ino
    mount.set_attributes(directory, mode=0o700)
    assert stat.S_IMODE(find(mount, "inodes", str(made), "ring").st_mode) == 0o400
    mount.ops.tree._reach._until = 0.0
    mount.set_attributes(directory, mode=0o711)
    assert stat.S_IMODE(find(mount, "inodes", str(made), "ring").st_mode) == 0o444
    mount.ops.tree._reach._until = 0.0
    mount.call("unlink", directory, b"in", CTX)
    assert stat.S_IMODE(find(mount, "inodes", str(made), "ring").st_mode) == 0o400


def test_names_are_those_that_the_reader_can_get_to(mount: Mount) -> None:
    file, directory = mount.inos[b"file"], mount.inos[b"dir"]
    mount.set_attributes(directory, mode=0o700, uid=USER.uid)
    inner = mount.call("mkdir", directory, b"in ner", 0o755, CTX).st_ino
    mount.call("link", file, inner, b"x\n", CTX)
    everywhere = "file\ndir/in\\040ner/x\\012\n"
    other = SimpleNamespace(uid=2000, gid=2000, pid=1, umask=0)
    for ctx, shown in ((CTX, everywhere), (USER, everywhere), (other, "file\n")):
        assert read(mount, "inodes", str(file), "name", ctx=ctx) == shown
    node = find(mount, "inodes", str(file), "name").st_ino
    fh = mount.call("open", node, os.O_RDONLY, CTX).fh
    assert not mount.call("poll", node, fh, None, CTX) & select.POLLPRI
    mount.call("release", fh)
    mount.call("unlink", ROOT, b"file", CTX)
    mount.call("unlink", inner, b"x\n", CTX)
    assert read(mount, "inodes", str(file), "name") == "", "it lives on without a name"


def test_snapshots_are_bounded(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anonfsd._tree_operations._MOST_HELD", 100)
    meminfo = numbers(mount)[1]
    fh = mount.call("open", meminfo, os.O_RDONLY, CTX).fh
    assert mount.call("open", meminfo, os.O_RDONLY, CTX) == "ENFILE"
    mount.call("release", fh)
    mount.call("release", mount.call("open", meminfo, os.O_RDONLY, CTX).fh)


def test_a_large_snapshot_is_read_in_pieces(mount: Mount) -> None:
    fh = mount.call("open", numbers(mount)[1], os.O_RDONLY, CTX).fh
    (file,) = mount.ops._views
    file.text = os.urandom(300_000)
    found = b""
    while piece := mount.call("read", fh, len(found), 1 << 20):
        assert len(piece) <= 128 << 10
        found += piece
    assert found == file.text
    mount.call("release", fh)


def test_other_files_are_always_ready(mount: Mount) -> None:
    found = mount.call("poll", mount.inos[b"file"], mount.open(), None, CTX)
    ready = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM
    assert found == ready


@pytest.mark.parametrize("handler", ["open", "lookup", "opendir", "getattr"])
def test_unforeseen_errors(failing_mount: Mount, handler: str) -> None:
    number = numbers(failing_mount)[1]
    failing_mount.ops.tree = Broken(ValueError("unforeseen"))
    arguments = {"lookup": (ROOT, b".anonfs"), "open": (number, 0)}.get(handler, (number,))
    assert failing_mount.call(handler, *arguments, CTX) == "EIO"


def test_every_handler_knows_the_tree() -> None:
    base = set(vars(pyfuse3.Operations))
    handlers = {name for name in vars(Operations) if name in base and not name.startswith("_")}
    settings = {"supports_dot_lookup", "enable_writeback_cache", "enable_acl"}
    # Links and writable handles there are none; statfs is of the mount; FORGET see above.
    without = {"readlink", "statfs", "forget"}
    assert handlers - settings - without <= set(vars(TreeOperations))
