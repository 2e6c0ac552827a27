"""The ring and the counts of a file, told by the kernel's own view of real processes."""

import mmap
import os
from pathlib import Path

import pytest

from anonfs.inspection import Area, Counts
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import ring_of
from tests.posix.children import NOBODY, STRANGER, Child, User, as_user, eventually, hear, say
from tests.posix.memory import READ, Mapping
from tests.support.mounts import Mounted

_PAGES = 8


def _counts(file: Path | int) -> Counts:
    return Counts.parse(os.getxattr(file, "user.anonfs.count").decode())


def _kernels(pid: int, mapping: Mapping) -> list[Area]:
    """The areas of a process within a mapping, as /proc/PID/maps has them."""
    areas = []
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        span, perms, offset = line.split()[:3]
        start, end = (int(part, 16) for part in span.split("-"))
        if mapping.address <= start < mapping.address + mapping.length:
            areas.append(Area(pid, start, end, int(offset, 16), perms))
    return areas


def _open(path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    os.ftruncate(fd, _PAGES * PAGE_SIZE)
    return fd


def _hold(path: Path) -> None:
    """Maps a file until it is told to end."""
    Mapping(_open(path), _PAGES * PAGE_SIZE)
    say("mapped")
    hear()


def test_a_mapping_comes_and_goes(shared_mount: Path) -> None:
    path = shared_mount / "f"
    fd = _open(path)
    assert ring_of(path) == []
    assert _counts(path) == Counts(dentry=3, areas=0, opens=1, links=1, loaded_ptes=0)
    mapping = Mapping(fd, 3 * PAGE_SIZE, 2 * PAGE_SIZE)
    start = mapping.address
    area = Area(os.getpid(), start, start + 3 * PAGE_SIZE, 2 * PAGE_SIZE, "rw-s")
    assert ring_of(path) == [area]
    assert _counts(path) == Counts(dentry=4, areas=1, opens=1, links=1, loaded_ptes=0)
    mapping.unmap()
    assert ring_of(path) == []
    os.close(fd)
    eventually(lambda: _counts(path).opens == 0, "the file is released")
    assert _counts(path) == Counts(dentry=2, areas=0, opens=0, links=1, loaded_ptes=0)


def test_permissions_and_private_mappings(shared_mount: Path) -> None:
    path = shared_mount / "f"
    fd = _open(path)
    mappings = [
        Mapping(fd, PAGE_SIZE, flags=mmap.MAP_PRIVATE),
        Mapping(fd, PAGE_SIZE, protection=READ),
        Mapping(fd, PAGE_SIZE, protection=0),
    ]
    found = {(area.start, area.perms) for area in ring_of(path)}
    addresses = [mapping.address for mapping in mappings]
    assert found == set(zip(addresses, ("rw-p", "r--s", "---s"), strict=True))
    for mapping in mappings:
        mapping.unmap()
    os.close(fd)


def test_fork_and_exit(shared_mount: Path) -> None:
    path = shared_mount / "f"
    fd = _open(path)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    with Child(hear) as child:
        both = _kernels(os.getpid(), mapping) + _kernels(child.pid, mapping)
        assert len(both) == 2
        assert sorted(ring_of(path), key=lambda area: area.pid or 0) == sorted(
            both, key=lambda area: area.pid or 0
        )
        assert _counts(path) == Counts(dentry=5, areas=2, opens=1, links=1, loaded_ptes=0)
        mapping.unmap()
        assert ring_of(path) == _kernels(child.pid, mapping)
        child.kill()
        child.wait()
        assert ring_of(path) == []
    os.close(fd)


def test_a_hole_makes_two_areas(shared_mount: Path) -> None:
    path = shared_mount / "f"
    fd = _open(path)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    mapping.unmap(3 * PAGE_SIZE, 2 * PAGE_SIZE)
    start = mapping.address
    me = os.getpid()
    assert ring_of(path) == [
        Area(me, start, start + 3 * PAGE_SIZE, 0, "rw-s"),
        Area(me, start + 5 * PAGE_SIZE, start + 8 * PAGE_SIZE, 5 * PAGE_SIZE, "rw-s"),
    ]
    assert _counts(path).areas == 2
    mapping.unmap(0, PAGE_SIZE)
    mapping.unmap(7 * PAGE_SIZE, PAGE_SIZE)
    assert ring_of(path) == _kernels(me, mapping)
    assert [area.offset for area in ring_of(path)] == [PAGE_SIZE, 5 * PAGE_SIZE]
    mapping.unmap()
    os.close(fd)


def test_exec_takes_the_areas(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.touch()

    def become() -> None:
        _hold(path)
        os.execvp("sleep", ["sleep", "60"])  # noqa: S606  no shell

    with Child(become) as child:
        assert child.said() == "mapped"
        assert [area.pid for area in ring_of(path)] == [child.pid]
        child.tell()
        child.await_exec()
        assert ring_of(path) == []
        eventually(lambda: _counts(path).opens == 0, "exec has closed the file")
        assert _counts(path) == Counts(dentry=2, areas=0, opens=0, links=1, loaded_ptes=0)


def test_a_mapping_holds_its_open_file(shared_mount: Path) -> None:
    path = shared_mount / "f"
    fd = _open(path)
    mapping = Mapping(fd, PAGE_SIZE)
    os.close(fd)
    assert _counts(path) == Counts(dentry=4, areas=1, opens=1, links=1, loaded_ptes=0)
    mapping.unmap()
    eventually(lambda: _counts(path).opens == 0, "the file is released")


def test_links_are_counted(shared_mount: Path) -> None:
    path = shared_mount / "f"
    fd = _open(path)
    (shared_mount / "g").hardlink_to(path)
    assert _counts(fd) == Counts(dentry=4, areas=0, opens=1, links=2, loaded_ptes=0)
    path.unlink()
    (shared_mount / "g").unlink()
    assert _counts(fd) == Counts(dentry=2, areas=0, opens=1, links=0, loaded_ptes=0)
    os.close(fd)


@pytest.mark.usefixtures("as_root")
def test_addresses_are_for_root_and_the_owner(shared_mount: Path) -> None:
    shared_mount.chmod(0o777)
    path = shared_mount / "f"
    path.touch()
    path.chmod(0o666)

    def ring(here: Path) -> list[Area]:
        return ring_of(here / "f")

    with Child(_hold, Path("f"), user=STRANGER, directory=shared_mount) as child:
        assert child.said() == "mapped"
        (seen,) = as_user(User(0, 0), shared_mount, ring)
        (own,) = as_user(STRANGER, shared_mount, ring)
        (hidden,) = as_user(NOBODY, shared_mount, ring)
    assert own == seen
    assert (seen.pid, seen.offset, seen.perms) == (child.pid, 0, "rw-s")
    assert seen.start is not None
    assert seen.end == seen.start + _PAGES * PAGE_SIZE
    assert hidden == Area(child.pid, None, None, 0, "rw-s")


def test_a_nameless_inode_goes_with_its_last_user(mounted: Mounted) -> None:
    def free() -> tuple[int, int]:
        found = os.statvfs(mounted.path)
        return found.f_bfree, found.f_ffree

    before = free()
    path = mounted.path / "f"
    fd = _open(path)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    path.unlink()
    mapping.write(0, b"n" * _PAGES * PAGE_SIZE)
    mapping.sync()
    held = (before[0] - _PAGES, before[1] - 1)
    assert free() == held

    def child() -> None:
        say("here")
        hear()
        say(mapping.read(0, 1))
        hear()

    with Child(child) as user:
        assert user.said() == "here"
        mapping.unmap()
        assert _counts(fd).areas == 1
        os.close(fd)
        user.tell()
        assert user.said() == b"n"
        assert free() == held
        user.kill()
        user.wait()
    eventually(lambda: free() == before, "the inode and its pages are free")


@pytest.mark.usefixtures("as_root")
def test_the_log_says_how_rings_are_followed(mounted: Mounted) -> None:
    eventually(lambda: "mounted, budget" in mounted.log_text(), "the daemon is ready")
    assert "tier exact: the kernel reports each fork and unmap" in mounted.log_text()
