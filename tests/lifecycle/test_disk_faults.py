"""Disks that lose, damage and refuse pages: whoever asks for such a page is told, and nobody else.

The swap file is kept, so that a test can spoil it behind the daemon's back. Which slot a page is in
is not known outside the daemon: it is found by what it holds.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from anonfs.client import connect
from anonfs.meminfo import Counters
from anonfs.units import PAGE_SIZE
from tests.conftest import skip_or_fail
from tests.lifecycle.places import program
from tests.posix.children import Child, eventually, say
from tests.posix.descriptors import descriptor
from tests.posix.memory import READ, Mapping
from tests.posix.reference import outcome
from tests.support.mountinfo import mount_at
from tests.support.mounts import Mounted

_PAGES = 1024
_SWAP = 16 << 20
_SPARE = 3 << 20
_DAMAGED = re.compile(r"ERROR inode (\d+): (?:damaged|unreadable).* on swap: (.*)")
_PAGE = re.compile(r"(?:page |, )(\d+) \(slot \d+\)")


@dataclass(frozen=True, slots=True)
class _Disk:
    """A small ext4 file system at ``point``, in the file ``image``."""

    point: Path
    image: Path


@pytest.fixture
def disk(tmp_path: Path, as_root: None, need_program: Callable[[str], str]) -> Iterator[_Disk]:
    del as_root
    made = _Disk(tmp_path / "disk", tmp_path / "image")
    made.point.mkdir()
    with made.image.open("wb") as image:
        image.truncate(4 * _SWAP)
    make = [need_program("mkfs.ext4"), "-q", "-b", str(PAGE_SIZE), "-O", "^has_journal"]
    subprocess.run([*make, str(made.image)], check=True)
    need_program("losetup")
    attach = ["mount", "-o", "loop", str(made.image), str(made.point)]
    attached = subprocess.run(attach, check=False, capture_output=True, text=True)
    if attached.returncode != 0:
        skip_or_fail(f"no loop device can be mounted: {attached.stderr.strip()}")
    with _unmounted_after(made.point):
        yield made


@pytest.fixture
def small(tmp_path: Path, as_root: None) -> Iterator[Path]:
    """A tmpfs that is little more than a swap file."""
    del as_root
    place = tmp_path / "small"
    place.mkdir()
    size = f"size={_SWAP + _SPARE}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
    with _unmounted_after(place):
        yield place


@contextlib.contextmanager
def _unmounted_after(point: Path) -> Iterator[None]:
    try:
        yield
    finally:
        while mount_at(point) is not None:
            subprocess.run([program("umount"), "--lazy", point], check=True)


@pytest.fixture
def mount_on(mount_factory: Callable[..., Mounted]) -> Callable[[Path], Mounted]:
    """Makes a mount whose swap file is kept at a path."""

    def mount(swap: Path) -> Mounted:
        keep = ("--check", "--swap", str(swap), "--swap-size", str(_SWAP), "--keep-swap")
        mounted = mount_factory(budget="4M", arguments=keep)
        mounted.expects_errors = True
        return mounted

    return mount


def _content(page: int) -> bytes:
    text = b"page %08d " % page
    return (text * (PAGE_SIZE // len(text) + 1))[:PAGE_SIZE]


def _swapped_out(path: Path) -> None:
    """Make a file, all of which is on swap and nowhere else."""
    path.write_bytes(b"".join(map(_content, range(_PAGES))))
    os.setxattr(path, "user.anonfs.swapout", b"all")
    assert b"in_core=0 on_swap=%d" % _PAGES in os.getxattr(path, "user.anonfs.pages")


def _places(store: Path) -> dict[int, int]:
    """At which byte of a swap file, or of the disk it is on, each page is."""
    data = store.read_bytes()
    starts = range(0, len(data), PAGE_SIZE)
    found = {start: data[start : start + 14] for start in starts}
    return {
        int(head[5:13]): start
        for start, head in found.items()
        if head.startswith(b"page ") and head[5:13].isdigit()
    }


def _damage(store: Path, offset: int) -> None:
    with descriptor(store, os.O_RDWR) as fd:
        os.pwrite(fd, b"\xff", offset + PAGE_SIZE // 2)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _touch(path: Path, page: int) -> None:
    with descriptor(path, os.O_RDONLY) as fd:
        Mapping(fd, _PAGES * PAGE_SIZE, protection=READ).read(page * PAGE_SIZE, 1)


def _check_lost(mounted: Mounted, path: Path, lost: set[int]) -> None:
    """``lost`` pages of a file cannot be had, and are named in the log; all others are right."""
    for page in list(lost)[:3]:
        with Child(_touch, path, page) as child:
            assert child.wait() == -signal.SIGBUS
    with descriptor(path, os.O_RDONLY) as fd:
        for page in range(_PAGES):
            found = outcome(os.pread, fd, PAGE_SIZE, page * PAGE_SIZE)
            assert found == ("EIO" if page in lost else _content(page)), page
    named = _DAMAGED.findall(mounted.log_text())
    assert {int(ino) for ino, _ in named} == {path.stat().st_ino}
    assert {int(page) for _, pages in named for page in _PAGE.findall(pages)} == lost
    assert len(named) <= len(lost), "once for each, however often they are asked for"
    assert mounted.responds()


def _check_cannot_be_changed_in_part(path: Path, page: int) -> None:
    """What is to stay of a page that is lost is not known."""
    size = path.stat().st_size
    with descriptor(path) as fd:
        assert outcome(os.pwrite, fd, b"x", page * PAGE_SIZE + 5) == "EIO"
        assert outcome(os.ftruncate, fd, page * PAGE_SIZE + 5) == "EIO"
        assert os.fstat(fd).st_size == size
        assert outcome(os.pread, fd, PAGE_SIZE, page * PAGE_SIZE) == "EIO"


def _counters(mounted: Mounted) -> Counters:
    return connect(mounted.path).meminfo().counters


def _check_heals(path: Path, lost: set[int]) -> None:
    """A page that is written as a whole needs nothing of what it was before."""
    with descriptor(path) as fd:
        for page in lost:
            assert os.pwrite(fd, _content(page), page * PAGE_SIZE) == PAGE_SIZE
    os.setxattr(path, "user.anonfs.swapout", b"all")
    assert path.read_bytes() == b"".join(map(_content, range(_PAGES)))


def _on_disk(disk: _Disk, path: Path, through: str) -> tuple[Path, dict[int, int]]:
    """Swap ``path`` out: the file or the disk that its pages are on then, and where each is."""
    _swapped_out(path)
    os.sync()
    store = disk.point / "swap" if through == "file" else disk.image
    places = _places(store)
    assert places.keys() == set(range(_PAGES))
    return store, places


@pytest.mark.parametrize("through", ["file", "disk"])
def test_damaged_slots_cost_their_pages_alone(
    disk: _Disk, mount_on: Callable[[Path], Mounted], through: str
) -> None:
    mounted = mount_on(disk.point / "swap")
    path = mounted.path / "f"
    store, places = _on_disk(disk, path, through)
    lost = {0, 5, 6, 700, _PAGES - 1}
    for page in lost:
        _damage(store, places[page])
    _check_lost(mounted, path, lost)
    _check_cannot_be_changed_in_part(path, 700)
    assert _counters(mounted).swap_checksum_errors >= len(lost)
    assert _counters(mounted).swap_read_errors == 0
    _check_heals(path, lost)


@pytest.mark.parametrize("through", ["file", "disk"])
def test_a_disk_that_is_cut_short(
    disk: _Disk, mount_on: Callable[[Path], Mounted], through: str
) -> None:
    mounted = mount_on(disk.point / "swap")
    path = mounted.path / "f"
    store, places = _on_disk(disk, path, through)
    end = sorted(places.values())[_PAGES // 2]
    os.truncate(store, end)
    lost = {page for page, start in places.items() if start >= end}
    assert len(lost) == _PAGES // 2
    _check_lost(mounted, path, lost)
    seen = _counters(mounted)
    assert seen.swap_read_errors + seen.swap_checksum_errors >= len(lost)
    _check_heals(path, lost)


@contextlib.contextmanager
def _filled_up(place: Path) -> Iterator[None]:
    """Not a block is left on the file system of ``place``."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, PAGE_SIZE):
            while outcome(file.write, b"x" * size) == size:
                pass
    yield
    filler.unlink()


def test_a_disk_that_others_fill_up(small: Path, mount_on: Callable[[Path], Mounted]) -> None:
    """The swap file has no blocks after all, and there are none to have; later there are."""
    mounted = mount_on(small / "swap")
    os.truncate(small / "swap", 0)
    path = mounted.path / "f"
    content = b"".join(map(_content, range(_PAGES // 2)))
    with _filled_up(small):
        path.write_bytes(content)
        assert outcome(os.setxattr, path, "user.anonfs.swapout", b"all") == "EIO"
        assert path.read_bytes() == content
        assert mounted.log_text().count("swap cannot be written everywhere") <= 10
    eventually(
        lambda: outcome(os.setxattr, path, "user.anonfs.swapout", b"all") is None,
        "the disk has recovered",
    )
    assert path.read_bytes() == content
    seen = _counters(mounted)
    assert seen.swap_write_errors > 0
    assert seen.swap_read_errors == seen.swap_checksum_errors == 0


def _dirty(path: Path, pages: int) -> None:
    with descriptor(path) as fd:
        os.ftruncate(fd, pages * PAGE_SIZE)
        mapping = Mapping(fd, pages * PAGE_SIZE)
        for page in range(pages):
            mapping.write(page * PAGE_SIZE, _content(page))
        mapping.sync()
    say("dirtied")


def test_a_disk_that_is_full_for_a_while(small: Path, mount_on: Callable[[Path], Mounted]) -> None:
    """More was dirtied than fits in frames: its write-back waits, and none of it is lost."""
    mounted = mount_on(small / "swap")
    os.truncate(small / "swap", 0)
    path = mounted.path / "f"
    with contextlib.ExitStack() as stack:
        with _filled_up(small):
            child = stack.enter_context(Child(_dirty, path, 2 * _PAGES))
            eventually(
                lambda: "swap cannot be written" in mounted.log_text(), "swap is needed, and fails"
            )
            assert not child.has_said(0)
        assert child.said() == "dirtied"
    os.setxattr(path, "user.anonfs.swapout", b"all")
    assert path.read_bytes() == b"".join(map(_content, range(2 * _PAGES)))
    assert mounted.responds()
