"""Looks at real processes that map real files; any file system will do."""

import ctypes
import mmap
import os
import platform
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from select import select

import pytest

from anonfs.units import PAGE_SIZE, Ino
from anonfs.vm import MappedArea, ProcessMaps
from anonfsd import procfs
from anonfsd.procfs import scan
from tests.posix import children
from tests.posix.children import eventually, hear, in_child, say
from tests.posix.sharing import clone_sharing, vfork_sleeping
from tests.vm.fakes import FakeInode, World

# A child makes no use of what a thread of pytest may hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

PATIENCE = 60.0
FILE_PAGES = 16
SYS_EXIT = {"x86_64": 60, "aarch64": 93}
"""exit(2) of one thread, which no library offers."""

libc = ctypes.CDLL(None, use_errno=True)
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file"
    path.write_bytes(bytes(FILE_PAGES * PAGE_SIZE))
    return path


def device_of(path: Path) -> tuple[int, int]:
    device = path.stat().st_dev
    return os.major(device), os.minor(device)


class Child:
    """A forked process that runs ``body``, says so, and then does ``rest``."""

    def __init__(self, body: Callable[[], object], rest: Callable[[], object]) -> None:
        ready, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                body()
                os.write(say, b"+")
                rest()
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(1)
        os.close(say)
        try:
            assert select([ready], [], [], PATIENCE)[0]
            assert os.read(ready, 1) == b"+"
        finally:
            os.close(ready)

    def kill(self) -> None:
        """End it, but leave the zombie: wait for the exit alone."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def reap(self) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@pytest.fixture
def child() -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def make(
        body: Callable[[], object] = lambda: None, rest: Callable[[], object] = signal.pause
    ) -> Child:
        children.append(Child(body, rest))
        return children[-1]

    yield make
    for one in children:
        one.reap()


class Mapping:
    """The whole of a file, mapped; pages are unmapped behind Python's back."""

    def __init__(self, path: Path, flags: int = mmap.MAP_SHARED) -> None:
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), FILE_PAGES * PAGE_SIZE, flags=flags)
        # The view is kept, so that the mmap object is never closed over a hole.
        self.view = ctypes.c_char.from_buffer(self.memory)
        self.start = ctypes.addressof(self.view)

    def unmap(self, first: int, end: int) -> None:
        assert not libc.munmap(self.start + first * PAGE_SIZE, (end - first) * PAGE_SIZE)

    def protect(self, first: int, end: int, prot: int) -> None:
        where, size = self.start + first * PAGE_SIZE, (end - first) * PAGE_SIZE
        assert not libc.mprotect(where, size, prot)

    def close(self) -> None:
        del self.view
        self.memory.close()


def look_at(path: Path, pid: int) -> ProcessMaps:
    [process] = scan(device_of(path), [pid])
    return process


def areas_of(path: Path, pid: int) -> list[MappedArea]:
    """The areas of the one file; others of its device may be mapped, too."""
    return [area for area in look_at(path, pid).areas if area.ino == path.stat().st_ino]


def spans(path: Path, pid: int, start: int) -> list[tuple[int, int, int, str]]:
    """(first page, end page, first page of the file, perms), pages counted from ``start``."""
    return [
        (
            (area.start - start) // PAGE_SIZE,
            (area.end - start) // PAGE_SIZE,
            area.offset // PAGE_SIZE,
            area.perms,
        )
        for area in areas_of(path, pid)
    ]


def test_a_mapping_is_found_where_it_is(file: Path) -> None:
    mapping = Mapping(file)
    assert areas_of(file, os.getpid()) == [
        MappedArea(
            ino=Ino(file.stat().st_ino),
            start=mapping.start,
            end=mapping.start + FILE_PAGES * PAGE_SIZE,
            offset=0,
            perms="rw-s",
        )
    ]
    mapping.close()
    assert areas_of(file, os.getpid()) == []


def test_a_private_mapping_is_found(file: Path) -> None:
    mapping = Mapping(file, mmap.MAP_PRIVATE)
    assert spans(file, os.getpid(), mapping.start) == [(0, FILE_PAGES, 0, "rw-p")]
    mapping.close()


def test_a_process_is_described(file: Path, child: Callable[..., Child]) -> None:
    own = look_at(file, os.getpid())
    other = look_at(file, child().pid)
    assert (own.pid, own.parent, own.uid) == (os.getpid(), os.getppid(), os.geteuid())
    assert (other.parent, other.uid) == (os.getpid(), os.geteuid())
    assert own.group == other.group == os.getpgrp()
    assert own.exists
    assert 0 < own.start_time <= other.start_time


def test_a_child_has_what_it_was_forked_with(file: Path, child: Callable[..., Child]) -> None:
    mapping = Mapping(file)
    pid = child().pid
    assert areas_of(file, pid) == areas_of(file, os.getpid()) != []
    found = {process.pid: process for process in scan(device_of(file))}
    assert found[pid] == look_at(file, pid)
    assert found[os.getpid()].pid == found[pid].parent
    assert list(found) == sorted(found)
    mapping.close()


def test_a_partial_unmap_shows_two_areas(file: Path, child: Callable[..., Child]) -> None:
    mapping = Mapping(file)
    pid = child(lambda: mapping.unmap(4, 6)).pid
    assert spans(file, pid, mapping.start) == [(0, 4, 0, "rw-s"), (6, FILE_PAGES, 6, "rw-s")]
    assert spans(file, os.getpid(), mapping.start) == [(0, FILE_PAGES, 0, "rw-s")]
    mapping.close()


def test_mprotect_shows_three_areas(file: Path, child: Callable[..., Child]) -> None:
    mapping = Mapping(file)
    pid = child(lambda: mapping.protect(4, 6, mmap.PROT_READ)).pid
    shown = spans(file, pid, mapping.start)
    assert shown == [(0, 4, 0, "rw-s"), (4, 6, 4, "r--s"), (6, FILE_PAGES, 6, "rw-s")]
    mapping.close()


@pytest.mark.parametrize("name", ["a b", "a\nb", "a (deleted)", "ü\\012", " 00:00 1 "])
def test_paths_are_never_looked_at(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(FILE_PAGES * PAGE_SIZE))
    mapping = Mapping(path)
    assert len(areas_of(path, os.getpid())) == 1
    device, ino = device_of(path), path.stat().st_ino
    path.unlink()
    [process] = scan(device, [os.getpid()])
    assert [area.start for area in process.areas if area.ino == ino] == [mapping.start]
    mapping.close()


def test_a_path_that_looks_like_the_device_is_no_area(tmp_path: Path) -> None:
    path = tmp_path / "7f00-7f01 rw-s 00000000 ff:ffff 12 x"
    path.write_bytes(bytes(FILE_PAGES * PAGE_SIZE))
    mapping = Mapping(path)
    [process] = scan((0xFF, 0xFFFF), [os.getpid()])
    assert process.areas == ()
    assert scan((0xFF, 0xFFFF)) == []
    mapping.close()


@pytest.mark.parametrize("name", ["a b", "a) S 1 (b", "))", "x\ny"])
def test_a_command_may_have_any_name(file: Path, child: Callable[..., Child], name: str) -> None:
    pid = child(lambda: Path("/proc/self/comm").write_text(name)).pid
    assert look_at(file, pid).parent == os.getpid()


def test_a_process_asked_for_is_reported_without_areas(
    file: Path, child: Callable[..., Child]
) -> None:
    pid = child().pid
    [process] = scan((0xFF, 0xFFFF), [pid])
    assert (process.pid, process.areas, process.exists) == (pid, (), True)
    assert process.start_time == look_at(file, pid).start_time


def test_a_zombie_has_no_areas(file: Path, child: Callable[..., Child]) -> None:
    mapping = Mapping(file)
    process = child()
    before = look_at(file, process.pid)
    process.kill()
    after = look_at(file, process.pid)
    assert before.areas
    assert after.areas == ()
    assert (after.exists, after.start_time) == (True, before.start_time)
    assert process.pid not in [found.pid for found in scan(device_of(file))]
    mapping.close()


def test_a_process_that_is_gone_is_nobody(file: Path, child: Callable[..., Child]) -> None:
    process = child()
    process.reap()
    assert look_at(file, process.pid) == ProcessMaps.nobody(process.pid)
    assert not look_at(file, process.pid).exists


def test_kernel_threads_and_init_do_no_harm(file: Path) -> None:
    scan(device_of(file), [1, 2])


def test_a_thread_stands_for_its_process(file: Path) -> None:
    mapping = Mapping(file)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, args=(PATIENCE,))
    thread.start()
    try:
        assert thread.native_id is not None
        found = scan(device_of(file), [thread.native_id, os.getpid()])
        assert [process.pid for process in found] == [os.getpid()]
        everything = [process.pid for process in scan(device_of(file))]
        assert everything.count(os.getpid()) == 1
        assert thread.native_id not in everything
    finally:
        stop.set()
        thread.join()
    mapping.close()


@pytest.mark.skipif(platform.machine() not in SYS_EXIT, reason="needs the number of exit")
def test_a_process_lives_on_after_its_first_thread(file: Path, child: Callable[..., Child]) -> None:
    mapping = Mapping(file)

    zombie, say = os.pipe()

    def outlive() -> None:
        # The first thread leaves after the child is ready; only the kernel knows when.
        while b") Z " not in Path("/proc/self/stat").read_bytes():
            os.sched_yield()
        os.write(say, b"+")
        signal.pause()

    pid = child(
        lambda: threading.Thread(target=outlive).start(),
        lambda: libc.syscall(SYS_EXIT[platform.machine()], 0),
    ).pid
    assert select([zombie], [], [], PATIENCE)[0]
    os.close(zombie)
    os.close(say)
    assert len(areas_of(file, pid)) == 1
    mapping.close()


@pytest.mark.parametrize("share", [clone_sharing, vfork_sleeping])
def test_who_shares_the_memory_of_its_parent_says_so_until_that_is_its_own(
    file: Path, share: Callable[[], int]
) -> None:
    def body() -> None:
        mapping = Mapping(file)
        say(share())
        mapping.unmap(4, 6)
        say(in_child(lambda: look_at(file, os.getpid())))
        hear()

    with children.Child(body) as parent:
        sharing, forked = parent.said(), parent.said()
        pidfd = os.pidfd_open(sharing)
        try:
            # The parent's number is the greater one, or not even asked for.
            for found in (scan(device_of(file)), scan(device_of(file), [sharing, parent.pid])):
                by_pid = {process.pid: process for process in found}
                assert by_pid[sharing].shares_with == parent.pid
                assert by_pid[sharing].areas == by_pid[parent.pid].areas != ()
                assert by_pid[parent.pid].shares_with == 0
            assert (forked.parent, forked.shares_with) == (parent.pid, 0)
            parent.kill()
            parent.wait()
            eventually(lambda: look_at(file, sharing).parent != parent.pid, "it has another parent")
            assert look_at(file, sharing).shares_with == 0
            assert len(areas_of(file, sharing)) == 2
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


def test_what_counts_was_read_after_the_memory_was_found_to_be_its_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it is the parent's, of a child of vfork that calls exec in between."""

    def body() -> None:
        mapping = Mapping(file)
        hear()
        mapping.close()
        say("unmapped")
        hear()

    with children.Child(body) as process:
        eventually(lambda: bool(areas_of(file, process.pid)), "it has mapped the file")
        known = look_at(file, process.pid)

        def compared(one: int, other: int) -> bool:
            assert (one, other) == (process.pid, os.getpid())
            process.tell()
            assert process.said() == "unmapped"
            return False

        monkeypatch.setattr(procfs, "same_memory", compared)
        own = {(known.pid, known.start_time)}
        assert scan(device_of(file), [process.pid], own) == [known]
        assert areas_of(file, process.pid) == []


def test_looks_become_operations(file: Path, child: Callable[..., Child]) -> None:
    inode = FakeInode(Ino(file.stat().st_ino))
    world = World({inode.ino: inode})
    mapping = Mapping(file)
    device, own = device_of(file), os.getpid()
    world.look(*scan(device))
    quiet, cutting = child(), child(lambda: mapping.unmap(4, 6))
    world.look(*scan(device))
    assert [area.pid for area in world.ring(inode.ino)] == [
        own,
        *sorted([quiet.pid, cutting.pid, cutting.pid]),
    ]
    cutting.reap()
    world.look(*scan(device, [cutting.pid, quiet.pid]), complete=False)
    assert [area.pid for area in world.ring(inode.ino)] == [own, quiet.pid]
    mapping.close()
    quiet.reap()
    world.look(*scan(device))
    assert inode.dentry.deleted == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_a_process_that_may_not_be_read_is_left_out(
    file: Path, child: Callable[..., Child]
) -> None:
    def report() -> None:
        os.setresuid(65534, 65534, 65534)
        assert scan(device, [os.getppid()]) == []
        scan(device)

    device = device_of(file)
    child(report)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_the_user_is_the_effective_one(file: Path, child: Callable[..., Child]) -> None:
    mapping = Mapping(file)
    pid = child(lambda: os.setresuid(65534, 65534, 65534)).pid
    assert look_at(file, pid).uid == 65534
    mapping.close()
