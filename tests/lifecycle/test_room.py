"""What was unlinked is room for what comes next, though the kernel may tell of it a little later.

A descriptor that is only a path keeps the kernel from telling until it is closed.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.client import clone
from anonfs.units import PAGE_SIZE
from tests.posix.children import NOBODY, Child, eventually, hear, say
from tests.posix.descriptors import descriptor
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_PAGES = 64
_SIZE = _PAGES * PAGE_SIZE
_LIMIT = "--size", f"{_SIZE + PAGE_SIZE}"

pytestmark = pytest.mark.usefixtures("as_root")


def _truncate(place: Path) -> object:
    with descriptor(place / "new") as fd:
        return outcome(os.ftruncate, fd, _SIZE)


def _write(place: Path) -> object:
    with descriptor(place / "new") as fd:
        return outcome(os.pwrite, fd, b"x" * PAGE_SIZE, 0)


def _allocate(place: Path) -> object:
    with descriptor(place / "new") as fd:
        return outcome(os.posix_fallocate, fd, 0, PAGE_SIZE)


def _clone(place: Path) -> object:
    return outcome(clone, place / "source", place / "new")


def _lock(place: Path) -> object:
    (place / "new").write_bytes(b"n")
    return outcome(os.setxattr, place / "new", "user.anonfs.lock", b"on")


def _make(place: Path) -> object:
    return outcome(os.mkdir, place / "new")


def _make_a_link(place: Path) -> object:
    """A request that no thread answers at once."""
    return outcome(os.symlink, "old", place / "new")


def _fill(place: Path) -> Path:
    """Take all room of a mount with `_LIMIT`, most of it by one file."""
    (place / "source").write_bytes(b"s" * PAGE_SIZE)
    old = place / "old"
    old.write_bytes(b"x" * PAGE_SIZE)
    os.truncate(old, _SIZE)
    return old


def _waits(mounted: Mounted) -> bool:
    device = os.minor(mounted.path.stat().st_dev)
    return int(Path(f"/sys/fs/fuse/connections/{device}/waiting").read_text("ascii")) > 0


@pytest.mark.parametrize(
    ("ask", "limit"),
    [
        (_truncate, _LIMIT),
        (_write, _LIMIT),
        (_allocate, _LIMIT),
        (_clone, _LIMIT),
        (_lock, ("--max-locked-per-user", f"{_SIZE}")),
        (_make, ("--max-files-per-user", "1")),
        (_make_a_link, ("--max-files-per-user", "1")),
    ],
)
def test_what_is_asked_for_waits_until_the_kernel_has_forgotten(
    mount_factory: Callable[..., Mounted], ask: Callable[[Path], object], limit: tuple[str, str]
) -> None:
    mounted = mount_factory(arguments=("--check", *limit))
    old = _fill(mounted.path)
    os.chown(old, NOBODY.uid, NOBODY.gid)
    os.setxattr(old, "user.anonfs.lock", b"on")

    def ask_when_told() -> None:
        hear()
        say(ask(Path()))

    with Child(ask_when_told, user=NOBODY, directory=mounted.path) as child:
        kept = os.open(old, os.O_PATH)
        old.unlink()
        child.tell()
        eventually(lambda: _waits(mounted), "it waits")
        assert not child.has_said(0)
        os.close(kept)
        assert child.said() in {None, PAGE_SIZE}


def test_whoever_keeps_a_path_does_not_keep_others_waiting(
    mount_factory: Callable[..., Mounted],
) -> None:
    mounted = mount_factory(arguments=("--check", *_LIMIT))
    old = _fill(mounted.path)
    kept = os.open(old, os.O_PATH)
    old.unlink()
    assert _truncate(mounted.path) == "ENOSPC", "at the end of its patience"
    assert _truncate(mounted.path) == "ENOSPC"
    with open(f"/proc/self/fd/{kept}", "rb") as again:  # noqa: PTH123
        assert again.read(1) == b"x", "what is kept is whole"
    os.close(kept)
    eventually(lambda: os.statvfs(mounted.path).f_bfree == _PAGES, "all is given back")


def test_a_store_waits_as_well_where_sizes_are_free(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory(budget="4M", swap_size="8M", overcommit=True)
    room = os.statvfs(mounted.path).f_bfree

    def store(name: str) -> None:
        hear()
        with descriptor(mounted.path / name) as fd:
            os.ftruncate(fd, room * PAGE_SIZE)
            mapping = Mapping(fd, room * PAGE_SIZE)
            for offset in range(0, room * PAGE_SIZE, PAGE_SIZE):
                mapping.write(offset, b"s")
            say("stored")

    with Child(store, "old") as first:
        first.tell()
        assert first.said() == "stored"
    with Child(store, "new") as second:
        kept = os.open(mounted.path / "old", os.O_PATH)
        (mounted.path / "old").unlink()
        second.tell()
        eventually(lambda: _waits(mounted), "it waits")
        os.close(kept)
        assert second.said() == "stored"


def test_a_file_that_reclaim_had_open_is_soon_gone(mount_factory: Callable[..., Mounted]) -> None:
    """It keeps files open for a moment, which is not to be seen."""
    mounted = mount_factory(arguments=("--check", "--size", "12M"))
    for number in range(3):
        path = mounted.path / str(number)
        assert outcome(path.write_bytes, b"x" * (12 << 20)) == 12 << 20
        path.unlink()
