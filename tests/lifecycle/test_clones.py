"""Copies of files on a real mount: of one moment, for those who may read, and never half made."""

import contextlib
import errno
import itertools
import mmap
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anonfs.cli import main
from anonfs.client import NotAnonfsError, clone, connect, inspect, meminfo, swap_out
from anonfs.units import PAGE_SIZE
from anonfsd._stopping import writes_are_told
from tests.lifecycle.costs import cached_bytes, has_cachestat
from tests.posix.children import STRANGER, Child, as_user, eventually, say
from tests.support.mounts import Mounted

_PAGES = 600  # two leaves
_SIZE = _PAGES * PAGE_SIZE
_CLONE = "user.anonfs.clone"


def _fill(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(PAGE_SIZE) * (size // PAGE_SIZE)


def _ask(directory: Path, value: bytes) -> str:
    """What setting the attribute comes to."""
    try:
        os.setxattr(directory, _CLONE, value)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


@contextlib.contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_a_copy_is_what_was_seen_and_stays_so(mounted: Mounted, lazy: bool) -> None:
    """Through dirty pages, pages in core and on swap, copies of copies and changes of any side."""
    fs = connect(mounted.path)
    first, second, changed = (_fill(_SIZE, seed) for seed in range(3))
    with fs.map("source", _SIZE) as source:
        source[:] = first
        swap_out(source, 100, 550)
        source[300 * PAGE_SIZE : 301 * PAGE_SIZE] = second[:PAGE_SIZE]  # dirty, and not told
        seen = bytes(source)
        paths = [str(mounted.path / name) for name in ("source", "copy")]
        assert main(["clone", *["--lazy"] * lazy, *paths]) == 0
        source[:] = changed
        fs.clone("copy", "again", lazy=not lazy)
        with fs.map("copy") as copy, fs.map("again") as again:
            assert bytes(copy) == bytes(again) == seen
            copy[7 * PAGE_SIZE + 5 : 7 * PAGE_SIZE + 8] = b"own"
            fs.swap_out("again")
            assert bytes(source) == changed
            assert bytes(again) == seen
            assert copy[7 * PAGE_SIZE + 5 : 7 * PAGE_SIZE + 8] == b"own"
        os.truncate(mounted.path / "copy", 5)
        fs.unlink("copy")
        with fs.map("again", read_only=True) as again:
            assert bytes(again) == seen
    looked = inspect(mounted.path / "again")
    assert (looked.parent.ino, looked.pages.none, looked.reserved.pages) == (0, 0, _PAGES)
    fs.unlink("source")
    fs.unlink("again")
    eventually(lambda: meminfo(mounted.path).frames_used == 0, "all frames are free")


def test_pages_are_shared_until_one_side_writes(mounted: Mounted) -> None:
    fs = connect(mounted.path)
    with fs.map("source", 256 * PAGE_SIZE) as source:
        source[:] = _fill(256 * PAGE_SIZE, 1)
        for number in range(4):
            fs.clone("source", f"copy-{number}", lazy=number % 2 == 1)
        assert meminfo(mounted.path).frames_used == 256 * PAGE_SIZE
        assert inspect(mounted.path / "copy-3").pages.in_core == 256
        with fs.map("copy-1") as copy:
            copy[9 * PAGE_SIZE] = 1
            copy.flush()
        assert meminfo(mounted.path).frames_used == 257 * PAGE_SIZE
    status = (mounted.path / "source").stat()
    assert inspect(mounted.path / "copy-0").parent.ino == status.st_ino
    assert inspect(mounted.path / "source").parent.ino == 0
    names = {f"copy-{number}" for number in range(4)} | {"source"}
    assert {entry.name for entry in fs.list()} == names


def _store_everywhere(path: Path, size: int) -> None:
    """Store to each page, in turn, until killed."""
    with _opened(path, os.O_RDWR) as fd:
        words = memoryview(mmap.mmap(fd, size)).cast("Q")
    say("storing")
    for number in itertools.count(1):
        for place in range(0, size // 8, PAGE_SIZE // 8):
            words[place] = number


def test_what_was_stored_before_a_kill_is_in_a_copy(mounted: Mounted) -> None:
    """Nobody has it open to write then, so nothing is written back for the copy."""
    source, copy = mounted.path / "source", mounted.path / "copy"
    source.touch()
    os.truncate(source, _SIZE)
    with Child(_store_everywhere, source, _SIZE) as storing:
        assert storing.said() == "storing"
        with _opened(source) as fd, mmap.mmap(fd, _SIZE, prot=mmap.PROT_READ) as seen:
            eventually(lambda: any(seen[-PAGE_SIZE:]), "a round of stores")
        storing.kill()
    clone(source, copy)
    assert copy.read_bytes() == source.read_bytes()


def test_between_stores_no_page_leaves_the_page_cache(mounted: Mounted) -> None:
    fs = connect(mounted.path)
    with fs.map("source", _SIZE) as source, _opened(mounted.path / "source") as fd:
        source[:] = seen = _fill(_SIZE, 4)
        cached = cached_bytes(fd) if has_cachestat(mounted.path / "source") else 0
        fs.clone("source", "copy")
        if cached and os.geteuid() == 0 and writes_are_told():
            assert cached_bytes(fd) == cached
        source[:] = bytes(_SIZE)
        assert (mounted.path / "copy").read_bytes() == seen


def _count(path: Path, pages: list[int]) -> None:
    """Store rising numbers to some pages, always in the same order, until killed."""
    with _opened(path, os.O_RDWR) as fd:
        words = memoryview(mmap.mmap(fd, path.stat().st_size)).cast("Q")
    places = [page * PAGE_SIZE // 8 for page in pages]
    say("counting")
    for number in itertools.count(1):
        for place in places:
            words[place] = number


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_a_copy_is_of_one_moment_of_those_who_write_at_full_speed(
    mount_factory: Callable[..., Mounted], lazy: bool
) -> None:
    """What is stored first is never older in it than what is stored after it."""
    mounted = mount_factory(overcommit=True)
    source, copy = mounted.path / "source", mounted.path / "copy"
    source.touch()
    os.truncate(source, 50 << 21)
    outer, inner = [0, 49 << 9], [page << 9 for page in range(1, 49)]
    before = 0
    with Child(_count, source, outer) as one, Child(_count, source, inner) as other:
        assert one.said() == other.said() == "counting"
        for _ in range(5):
            clone(source, copy, lazy=lazy)
            with _opened(copy) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as seen:
                found = [
                    [
                        int.from_bytes(seen[page << 12 : (page << 12) + 8], "little")
                        for page in which
                    ]
                    for which in (outer, inner)
                ]
            copy.unlink()
            for numbers in found:
                assert numbers == sorted(numbers, reverse=True)
                assert numbers[0] <= numbers[-1] + 1
            assert found[0][0] >= before
            before = found[0][0]
        assert before > 0


def test_what_is_refused(mounted: Mounted, mount_factory: Callable[..., Mounted]) -> None:
    place = mounted.path / "place"
    place.mkdir()
    source = place / "source"
    source.write_bytes(b"source")
    other = mount_factory().path
    (other / "file").write_bytes(b"other")
    with _opened(source) as fd, _opened(source, os.O_WRONLY) as blind, _opened(place) as above:
        with _opened(other / "file") as foreign, _opened(Path("/proc/self/maps")) as maps:
            for value, outcome in {
                b"": "EINVAL",
                b"x": "EINVAL",
                b"lazy": "EINVAL",
                b"%d" % fd: "EINVAL",
                b"%d " % fd: "EINVAL",
                b"-1 copy": "EINVAL",
                b"999999999 copy": "EBADF",
                b"%d copy" % blind: "EBADF",
                b"%d copy" % above: "EISDIR",
                b"%d copy" % foreign: "EXDEV",
                b"%d copy" % maps: "EXDEV",
                b"%d source" % fd: "EEXIST",
                b"%d .." % fd: "EINVAL",
                b"%d a/b" % fd: "EINVAL",
                b"%d %b" % (fd, b"n" * 256): "ENAMETOOLONG",
            }.items():
                assert (value, _ask(place, value)) == (value, outcome)
        assert _ask(mounted.path, b"%d .anonfs" % fd) == "EEXIST"
        for value in (b"%d copy" % fd, b"%d" % fd, b"lazy quiet %d" % fd):
            assert _ask(source, value) == "EINVAL"
        assert list(place.iterdir()) == [source]
        assert _ask(place, b"lazy %d a name\nof two lines" % fd) == "done"
        assert (place / "a name\nof two lines").read_bytes() == b"source"
    for target in (other / "copy", Path("/tmp/anonfs-copy")):
        with pytest.raises(OSError) as refused:
            clone(source, target)
        assert refused.value.errno == errno.EXDEV
    with pytest.raises(NotAnonfsError):
        clone("/proc/self/maps", place / "copy")
    os.truncate(source, meminfo(mounted.path).promisable)
    assert main(["clone", str(source), str(place / "copy")]) == 2
    with pytest.raises(OSError) as refused:
        clone(source, place / "copy", lazy=True)
    assert refused.value.errno == errno.ENOSPC
    assert len(list(place.iterdir())) == 2


def test_who_can_read_can_clone_to_where_he_can_write(shared_mount: Path) -> None:
    """Also in a directory with the sticky bit, whose attributes its owner alone may set."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    shared_mount.chmod(0o755)
    for name, mode in {"tmp": 0o1777, "own": 0o700, "closed": 0o755, "blind": 0o722}.items():
        (shared_mount / name).mkdir()
        (shared_mount / name).chmod(mode)
    os.chown(shared_mount / "own", STRANGER.uid, STRANGER.gid)
    (shared_mount / "public").write_bytes(b"public")
    (shared_mount / "public").chmod(0o644)
    (shared_mount / "secret").write_bytes(b"secret")
    (shared_mount / "secret").chmod(0o600)

    def try_all(place: Path) -> list[str]:
        found = []
        for source in ("public", "secret"):
            for directory in ("tmp", "own", "closed"):
                try:
                    clone(place / source, place / directory / source)
                except OSError as error:
                    found.append(errno.errorcode[error.errno or 0])
                else:
                    found.append("done")
        with _opened(place / "public") as fd:
            return [*found, _ask(place / "blind", b"%d copy" % fd)]

    found = as_user(STRANGER, shared_mount, try_all)
    assert found == ["done", "done", "EACCES", *["EACCES"] * 3, "EACCES"]
    for directory in ("tmp", "own"):
        copies = list((shared_mount / directory).iterdir())
        assert [(copy.name, copy.read_bytes()) for copy in copies] == [("public", b"public")]
        status = copies[0].stat()
        assert (status.st_uid, status.st_gid) == (STRANGER.uid, STRANGER.gid)
        assert status.st_mode & 0o7777 == 0o600


def _clone_for_ever(directory: Path) -> None:
    say("cloning")
    for number in itertools.count():
        name = directory / f"{os.getpid()}-{number}"
        clone(directory / "source", name, lazy=number % 2 == 1)
        name.unlink()


def _store_and_fork_for_ever(directory: Path) -> None:
    with _opened(directory / "source", os.O_RDWR) as fd:
        memory = mmap.mmap(fd, _SIZE)
    say("storing")
    for number in itertools.count():
        if os.fork() == 0:
            memory[number % _SIZE] = 1
            os._exit(0)
        memory[::PAGE_SIZE] = bytes([number % 256]) * _PAGES
        os.wait()


def test_either_side_killed_at_any_moment(mounted: Mounted) -> None:
    """Whoever clones, stores or forks: what is left are whole files, and nothing when they go."""
    source = mounted.path / "source"
    source.write_bytes(_fill(_SIZE, 5))
    dice = random.Random(6)
    for _ in range(5):
        with (
            Child(_store_and_fork_for_ever, mounted.path) as storing,
            Child(_clone_for_ever, mounted.path) as one,
            Child(_clone_for_ever, mounted.path) as two,
        ):
            assert [child.said() for child in (storing, one, two)] == [
                "storing",
                "cloning",
                "cloning",
            ]
            until = time.monotonic() + dice.random() / 8
            eventually(lambda until=until: time.monotonic() > until, "the dice's moment")  # type: ignore[misc]
            for child in dice.sample([storing, one, two], 3):
                child.kill()
    for left in mounted.path.iterdir():
        assert left.stat().st_size == _SIZE
        assert len(left.read_bytes()) == _SIZE
        left.unlink()

    def nothing_is_left() -> bool:
        info = meminfo(mounted.path)
        return (info.frames_used, info.swap_total - info.swap_free, info.promised) == (0, 0, 0)

    eventually(nothing_is_left, "all memory is free")
