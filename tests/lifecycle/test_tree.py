"""The tree `.anonfs/` of real mounts: read by ordinary programs, waited for, closed to others."""

import json
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.client import connect, meminfo, swaps
from anonfs.inspection import Area, Counts, PageCounts, PageRun
from anonfs.units import PAGE_SIZE
from tests.lifecycle.places import anonfs
from tests.posix.children import NOBODY, STRANGER, Child, User, as_user, eventually, hear, say
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_PAGES = 16
_CHANGED = select.POLLPRI | select.POLLERR
_WHILE = 0.6
"""Seconds in which nothing must happen: more than two looks of the daemon."""


def _make(path: Path, pages: int = _PAGES) -> int:
    """A new file whose pages are all in core, and which nobody has open; returns its number."""
    path.write_bytes(b"x" * pages * PAGE_SIZE)

    def opens() -> int:
        return Counts.parse(os.getxattr(path, "user.anonfs.count").decode()).opens

    eventually(lambda: opens() == 0, "it is released")
    return path.stat().st_ino


def _tree(mounted: Mounted, ino: int) -> Path:
    return mounted.path / ".anonfs" / "inodes" / str(ino)


def _swap_out(path: Path, pages: str) -> None:
    os.setxattr(path, "user.anonfs.swapout", pages.encode())


def test_it_is_not_listed(mounted: Mounted) -> None:
    ino = _make(mounted.path / "f")
    assert os.listdir(mounted.path) == ["f"]  # noqa: PTH208  names
    found = mounted.run(["find", str(mounted.path), "-mindepth", "1"], 20).check()
    assert found.split() == [str(mounted.path / "f")]
    tree = mounted.path / ".anonfs"
    expected = ["events", "inodes", "limits", "meminfo", "socket", "swaps"]
    assert sorted(os.listdir(tree)) == expected  # noqa: PTH208  as above
    listed = mounted.run(["ls", "-laR", str(tree)], 20).check()
    assert str(ino) in listed
    assert not mounted.run(["rm", "-rf", str(tree)], 20).output.count("Input/output")
    assert (tree / "swaps").exists()
    assert os.statvfs(tree / "swaps") == os.statvfs(mounted.path)


@pytest.mark.parametrize(
    "command",
    ["cat {}", "grep . {}", "tail -n 1000 {}", "head -c 100000 {}", "less {}", "cp {} /dev/stdout"],
)
def test_ordinary_programs_read_it(
    mounted: Mounted, need_program: Callable[[str], str], command: str
) -> None:
    need_program(command.split(maxsplit=1)[0])
    pages = _tree(mounted, _make(mounted.path / "f")) / "pages"
    expected = pages.read_text(encoding="ascii")
    assert PageCounts.parse(expected) == PageCounts(_PAGES, 0, _PAGES, 0)
    assert mounted.run(["sh", "-c", f"{command.format(pages)} | cat"], 20).check() == expected


def test_meminfo_of_a_mount(mounted: Mounted) -> None:
    path = mounted.path / "f"
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, _PAGES * PAGE_SIZE)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    mapping.write(0, b"d" * _PAGES * PAGE_SIZE)
    info = connect(mounted.path).meminfo()
    assert info.budget == 8 << 20
    assert info.swap_total == swaps(mounted.path)[0].size == 256 << 20
    assert (info.promised, info.inodes, info.areas) == (_PAGES * PAGE_SIZE, 2, 1)
    if os.geteuid() == 0 and info.dirty is not None:
        assert info.dirty == _PAGES * PAGE_SIZE
        assert meminfo(mounted.path).dirty == info.dirty, "looking has written nothing back"
        mapping.sync()
        assert meminfo(mounted.path).dirty == 0
    mapping.sync()
    _swap_out(path, "0-3")
    assert swaps(mounted.path)[0].used == 4 * PAGE_SIZE
    mapping.unmap()
    os.close(fd)
    ran = anonfs("stat", str(mounted.path), "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["meminfo"]["promised"] == _PAGES * PAGE_SIZE
    assert "promisable" in anonfs("stat", str(mounted.path)).stdout


def test_a_page_map_that_no_attribute_holds(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory(budget="64M")
    path = mounted.path / "f"
    pages = 8000
    with path.open("wb", buffering=0) as file:
        file.truncate(pages * PAGE_SIZE)
        for page in range(0, pages, 2):
            os.pwrite(file.fileno(), b"x", page * PAGE_SIZE)
    states = "in_core", "none"
    expected = [PageRun(page, page, states[page % 2]) for page in range(pages)]
    assert os.getxattr(path, "user.anonfs.pagemap").endswith(b"...\n")
    text = (_tree(mounted, path.stat().st_ino) / "pagemap").read_text(encoding="ascii")
    assert len(text) > 65536
    assert [PageRun.parse(line) for line in text.splitlines()] == expected
    seen = connect(mounted.path).inspect("f")
    assert seen.complete
    assert seen.runs == expected


def test_a_ring_that_no_attribute_holds(mounted: Mounted) -> None:
    path = mounted.path / "f"
    _make(path)
    fd = os.open(path, os.O_RDWR)
    mappings = [Mapping(fd, PAGE_SIZE) for _ in range(2000)]
    seen = connect(mounted.path).inspect(fd)
    assert seen.areas_complete
    expected = {Area(os.getpid(), m.address, m.address + PAGE_SIZE, 0, "rw-s") for m in mappings}
    assert set(seen.areas) == expected
    assert len(seen.areas) == len(expected)
    for mapping in mappings:
        mapping.unmap()
    os.close(fd)


def _try_to_read(ino: int, name: str = "ring") -> Callable[[Path], object]:
    return lambda here: outcome((here / ".anonfs" / "inodes" / str(ino) / name).read_text)


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o200])
def test_who_may_read_is_who_may_read_the_attribute(mounted: Mounted, mode: int) -> None:
    path = mounted.path / "f"
    ino = _make(path)
    os.chown(path, STRANGER.uid, 60003)
    path.chmod(mode)
    in_group = User(60002, 60002, [60003])

    def by_attribute(here: Path) -> object:
        return outcome(os.getxattr, here / "f", "user.anonfs.pages")

    for user, bit in ((STRANGER, 0o400), (in_group, 0o040), (NOBODY, 0o004)):
        denied = not mode & bit
        assert (as_user(user, mounted.path, by_attribute) == "EACCES") == denied
        for name in ("ring", "pagemap", "pages", "count"):
            assert (as_user(user, mounted.path, _try_to_read(ino, name)) == "EACCES") == denied
    assert as_user(User(0, 0), mounted.path, _try_to_read(ino)) != "EACCES"


@pytest.mark.usefixtures("as_root")
def test_a_file_that_cannot_be_reached_by_name(mounted: Mounted) -> None:
    closed = mounted.path / "closed"
    closed.mkdir(mode=0o700)
    ino = _make(closed / "f")
    (closed / "f").chmod(0o644)
    assert as_user(NOBODY, mounted.path, _try_to_read(ino, "pages")) == "EACCES"
    closed.chmod(0o711)
    eventually(
        lambda: as_user(NOBODY, mounted.path, _try_to_read(ino, "pages")) != "EACCES",
        "it is readable like the attribute",
    )
    assert "EACCES" not in str(as_user(STRANGER, mounted.path, _try_to_read(ino, "count")))


@pytest.mark.usefixtures("as_root")
def test_addresses_are_for_root_and_the_owner(mounted: Mounted) -> None:
    path = mounted.path / "f"
    ino = _make(path)
    path.chmod(0o666)

    def hold() -> None:
        fd = os.open("f", os.O_RDWR)
        Mapping(fd, PAGE_SIZE)
        say("mapped")
        hear()

    with Child(hold, user=STRANGER, directory=mounted.path) as child:
        assert child.said() == "mapped"
        seen, own, hidden = (
            Area.parse(
                as_user(
                    user,
                    mounted.path,
                    lambda here: (here / ".anonfs/inodes" / str(ino) / "ring").read_text(),
                )
            )
            for user in (User(0, 0), STRANGER, NOBODY)
        )
    assert own == seen
    assert seen.start is not None
    assert hidden == Area(child.pid, None, None, 0, "rw-s")


def _wait(names: list[str], seconds: float) -> None:
    """Polls files for a change, as a program would that has read them; says what comes."""
    files = {os.open(name, os.O_RDONLY): name for name in names}
    poll = select.poll()
    for fd in files:
        os.read(fd, 1 << 20)
        poll.register(fd, select.POLLPRI)
    say([files[fd] for fd, _ in poll.poll(seconds * 1000)])
    say("waiting")
    say({files[fd]: events for fd, events in poll.poll()})
    say({name: os.pread(fd, 1 << 20, 0) for fd, name in files.items()})
    say([files[fd] for fd, _ in poll.poll(seconds * 1000)])


def test_a_change_wakes_who_waits(mounted: Mounted) -> None:
    changing, still = mounted.path / "changing", mounted.path / "still"
    tree = _tree(mounted, _make(changing))
    other = _tree(mounted, _make(still))
    kept = [str(tree / "ring"), str(tree / "count"), str(other / "pages"), str(other / "pagemap")]
    changed = {str(tree / "pages"), str(tree / "pagemap")}
    with Child(_wait, [*kept, *changed], _WHILE) as child:
        assert child.said() == [], "nothing has happened"
        assert child.said() == "waiting"
        _swap_out(changing, "0-7")
        told = child.said()
        assert told
        assert set(told) <= changed
        assert set(told.values()) == {_CHANGED}
        texts = child.said()
        assert texts[str(tree / "pagemap")] == b"0-7 on_swap\n8-15 in_core\n"
        assert child.said() == [], "what was read anew has not changed since"


def test_the_memory_of_a_mount_can_be_waited_for(mounted: Mounted) -> None:
    path = mounted.path / "f"
    _make(path)
    top = mounted.path / ".anonfs"
    for name in ("meminfo", "swaps"):
        with Child(_wait, [str(top / name)], _WHILE) as child:
            assert child.said() == []
            assert child.said() == "waiting"
            _swap_out(path, "0-3" if name == "meminfo" else "4-7")
            assert child.said() == {str(top / name): _CHANGED}


def test_select_and_no_waiting(mounted: Mounted) -> None:
    path = mounted.path / "f"
    pages = os.open(_tree(mounted, _make(path)) / "pages", os.O_RDONLY)
    os.read(pages, 4096)
    assert select.select([pages], [], [pages], 0) == ([pages], [], [])
    os.pread(pages, 4096, 0)
    path.write_bytes(b"")
    assert select.select([pages], [], [pages], 0) == ([pages], [], [pages])
    assert select.select([], [], [pages], 20) == ([], [], [pages]), "until it is read"
    assert PageCounts.parse(os.pread(pages, 4096, 0).decode()).total == 0
    os.close(pages)
    fd = os.open(path, os.O_RDWR)
    assert select.select([fd], [fd], [fd], 20) == ([fd], [fd], []), "a file is always ready"
    os.close(fd)


def test_an_inode_without_a_name(mounted: Mounted) -> None:
    path = mounted.path / "f"
    ino = _make(path)
    fd = os.open(path, os.O_RDWR)
    path.unlink()
    pages = _tree(mounted, ino) / "pages"
    assert PageCounts.parse(pages.read_text(encoding="ascii")).in_core == _PAGES
    looked = os.open(pages, os.O_RDONLY)
    before = os.pread(looked, 4096, 0)
    os.close(fd)
    eventually(lambda: not pages.exists(), "the inode is gone")
    assert outcome(os.pread, looked, 4096, 0) in {"ESTALE", "ENOENT"}
    assert os.pread(looked, 4096, 5) == before[5:], "the snapshot stays"
    assert [events & _CHANGED for _, events in _polled(looked)] == [_CHANGED]
    os.close(looked)
    assert os.listdir(pages.parents[1]) == []  # noqa: PTH208  names


def _polled(fd: int) -> list[tuple[int, int]]:
    poll = select.poll()
    poll.register(fd, select.POLLPRI)
    return poll.poll(20_000)


def test_nothing_can_be_changed(mounted: Mounted) -> None:
    ino = _make(mounted.path / "f")
    tree, file = mounted.path / ".anonfs", mounted.path / "f"
    assert outcome(tree.mkdir) == "EEXIST"
    assert outcome(os.open, tree, os.O_CREAT | os.O_EXCL | os.O_WRONLY) == "EEXIST"
    assert outcome(os.symlink, "x", tree) == "EEXIST"
    assert outcome(file.rename, tree) in {"EISDIR", "EEXIST"}
    (mounted.path / "d").mkdir()
    assert outcome((mounted.path / "d").rename, tree) in {"EPERM", "EEXIST", "ENOTEMPTY"}
    assert outcome(tree.rename, mounted.path / "x") == "EPERM"
    assert outcome(tree.rmdir) == "EPERM"
    if os.geteuid() == 0:  # whom no permission of a file stops
        assert outcome((tree / "x").touch) == "EPERM"
        assert outcome(os.open, tree / "meminfo", os.O_WRONLY) == "EPERM"
        assert outcome(os.truncate, tree / "meminfo", 0) == "EPERM"
        assert outcome((tree / "meminfo").unlink) == "EPERM"
        assert outcome((mounted.path / "y").hardlink_to, tree / "meminfo") == "EPERM"
        assert outcome((tree / "inodes" / str(ino)).rmdir) == "EPERM"
    assert sorted(os.listdir(mounted.path)) == ["d", "f"]  # noqa: PTH208  names


def test_who_waits_does_not_keep_a_mount_from_ending(mounted: Mounted) -> None:
    with Child(_wait, [str(mounted.path / ".anonfs" / "swaps")], 0.0) as child:
        assert child.said() == []
        assert child.said() == "waiting"
        assert mounted.stop() == []
        (events,) = child.said().values()
        assert events & select.POLLERR
