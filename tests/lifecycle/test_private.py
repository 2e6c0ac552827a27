"""Private memory on a real mount: every process has its own, and all of it goes with them."""

import contextlib
import ctypes
import errno
import faulthandler
import itertools
import mmap
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from anonfs.client import PrivateMemory, connect, inspect, meminfo, private
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import ring_of
from tests.posix.children import Child, eventually, hear, say
from tests.support.mounts import Mounted

_PAGES = 600
_SIZE = _PAGES * PAGE_SIZE


def _page(generation: int, page: int) -> bytes:
    return (b"%d.%d." % (generation, page)).ljust(PAGE_SIZE, b"%c" % (generation + 65))


def _fill(memory: PrivateMemory, generation: int, pages: range) -> None:
    for page in pages:
        memory[page * PAGE_SIZE : (page + 1) * PAGE_SIZE] = _page(generation, page)


def _wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _nothing_is_left(mount: Path, inodes: int = 1) -> bool:
    info = meminfo(mount)
    left = info.frames_used, info.swap_total - info.swap_free, info.promised
    return (*left, info.inodes) == (0, 0, 0, inodes)


def _descend(memory: PrivateMemory, depth: int, deepest: int) -> None:
    """Each generation changes its own tenth, and sees those of its ancestors and of no others."""

    def expected() -> Iterator[bytes]:
        for page in range(_PAGES):
            generation = page * 10 // _PAGES
            yield _page(generation + 1 if generation < depth else 0, page)

    first = depth * _PAGES // 10
    _fill(memory, depth + 1, range(first, first + _PAGES // 10))
    depth += 1
    memory.swap_out(depth, 10 * depth)
    if depth < deepest:
        with Child(_descend, memory, depth, deepest) as child:
            assert child.said() is None
    assert memory[:] == b"".join(expected())


def test_every_generation_has_its_own_beyond_the_budget(
    mount_factory: Callable[..., Mounted],
) -> None:
    """Ten of 2.4 MiB in core of 4 MiB: parent and children swap."""
    mount = mount_factory(budget="4M").path
    with private(_SIZE, mount) as memory:
        _fill(memory, 0, range(_PAGES))
        with Child(_descend, memory, 0, 10) as child:
            assert child.said() is None
        assert memory[:] == b"".join(_page(0, page) for page in range(_PAGES))
        assert meminfo(mount).counters.swap_out > _PAGES
    eventually(lambda: _nothing_is_left(mount), "all memory is free")
    assert list(mount.iterdir()) == []


def test_pages_are_shared_and_inodes_tell_whose_copy_they_are(mounted: Mounted) -> None:
    with private(256 * PAGE_SIZE, mounted.path) as memory:
        _fill(memory, 0, range(256))

        def look() -> None:
            seen = inspect(memory)
            ino = os.fstat(memory.fileno()).st_ino
            say((seen.kind, seen.parent.ino, ino, [area.pid for area in seen.areas]))
            hear()
            memory[0] = 1
            memory.flush()
            say(meminfo(mounted.path).frames_used)

        with Child(look) as child:
            kind, parent, ino, pids = child.said()
            ours = os.fstat(memory.fileno()).st_ino
            assert (kind, parent, pids) == ("private", ours, [child.pid])
            assert ino != ours
            assert meminfo(mounted.path).frames_used == 256 * PAGE_SIZE
            child.tell()
            assert child.said() == 257 * PAGE_SIZE
        seen = inspect(memory)
        assert (seen.kind, seen.counts.links, seen.parent.ino) == ("private", 0, 0)
        assert [area.pid for area in seen.areas] == [os.getpid()]


def _count(memory: PrivateMemory, number: int, stop: threading.Event) -> None:
    """Store rising numbers to words far apart, always in the same order."""
    words = memoryview(memory).cast("Q")
    places = [(page * 50 + number) * PAGE_SIZE // 8 for page in range(12)]
    for value in itertools.count(1):
        for place in places:
            words[place] = value
        if stop.is_set():
            return


def _check_counts(memory: PrivateMemory, before: int) -> int:
    """The exit status of a child: 0 if its copy is of one moment since ``before``, and its own."""
    seen = memory[:]
    for number in range(4):
        values = [
            int.from_bytes(seen[at : at + 8], "little")
            for at in range(number * PAGE_SIZE, _SIZE, 50 * PAGE_SIZE)
        ]
        if values != sorted(values, reverse=True) or values[0] > values[-1] + 1:
            return 1
        if number == 0 and values[0] < before:
            return 2
    memory[:] = bytes(_SIZE)
    return 3 if memory[:] != bytes(_SIZE) else 0


def _count_and_fork(mount: Path) -> list[int]:
    """Four threads store, and two fork at the same time; how the children end."""
    memory = private(_SIZE, mount)
    stop = threading.Event()
    ends: list[int] = []

    def fork() -> None:
        for _ in range(10):
            before = int.from_bytes(memory[:8], "little")
            pid = os.fork()
            if pid == 0:
                os._exit(_check_counts(memory, before))
            ends.append(_wait_for(pid))

    forking = [threading.Thread(target=fork) for _ in range(2)]
    counting = [threading.Thread(target=_count, args=(memory, n, stop)) for n in range(4)]
    for thread in counting + forking:
        thread.start()
    for thread in forking:
        thread.join()
    stop.set()
    for thread in counting:
        thread.join()
    return ends


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_threads_store_and_fork(mounted: Mounted) -> None:
    """A child has every inode as it was at one moment, no earlier than the call."""
    with Child(_count_and_fork, mounted.path) as child:
        assert child.said() == [0] * 20
    eventually(lambda: _nothing_is_left(mounted.path), "all memory is free")


def test_a_child_saves_what_there_was_while_its_parent_goes_on(
    mount_factory: Callable[..., Mounted], tmp_path: Path
) -> None:
    """A snapshot as Redis makes it: a balance kept over accounts twice as large as the budget."""
    mount = mount_factory(budget="4M").path
    saved = tmp_path / "saved"
    count, total = 1 << 20, 1000 << 20
    dice = np.random.default_rng(3)

    def save(accounts: npt.NDArray[np.int64]) -> None:
        say("saving")
        accounts.tofile(saved)

    def move(accounts: npt.NDArray[np.int64]) -> None:
        payers, payees = dice.permutation(count)[: 2 * 999].reshape(2, -1)
        accounts[payers] -= 7
        accounts[payees] += 7

    with private(8 * count, mount) as memory:
        accounts = np.frombuffer(memory, np.int64)
        accounts[:] = 1000
        for _ in range(2):
            move(accounts)
            expected = accounts.copy()
            with Child(save, accounts) as child:
                assert child.said() == "saving"
                while not child.has_said(0):
                    move(accounts)
                assert child.said() is None
            assert (np.fromfile(saved, np.int64) == expected).all()
            assert accounts.sum() == total
        del accounts


def _fork_for_ever(mount: Path) -> None:
    memory = private(_SIZE, mount)
    say("forking")
    for number in itertools.count():
        _fill(memory, number % 7, range(number % 10, _PAGES, 10))
        pid = os.fork()
        if pid == 0:
            memory[: 50 * PAGE_SIZE] = b"c" * 50 * PAGE_SIZE
            if number % 2 and os.fork() == 0:
                memory[-1] = 1
            os._exit(0)
        if number % 3 == 0:
            memory.resize(_SIZE + number % 5 * PAGE_SIZE)
        if number % 4 == 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_whoever_is_killed_leaves_nothing(mounted: Mounted) -> None:
    dice = random.Random(7)
    for _ in range(8):
        with (
            Child(_fork_for_ever, mounted.path) as one,
            Child(_fork_for_ever, mounted.path) as two,
        ):
            assert [one.said(), two.said()] == ["forking", "forking"]
            until = time.monotonic() + dice.random() / 8
            eventually(lambda until=until: time.monotonic() > until, "the dice's moment")  # type: ignore[misc]
            one.kill()
            two.kill()
    eventually(lambda: _nothing_is_left(mounted.path), "all memory is free")
    assert list(mounted.path.iterdir()) == []


def _state_in_child(memory: PrivateMemory) -> str:
    try:
        memory.fileno()
    except OSError as error:
        try:
            memory[0]
        except ValueError:
            return errno.errorcode[error.errno or 0]
    return bytes(memory[:2]).decode()


def test_a_child_for_which_there_is_no_room_has_nothing(mounted: Mounted) -> None:
    """It is told why, and an array of it is no way to anybody's memory; the parent goes on."""
    size = meminfo(mounted.path).promisable // PAGE_SIZE // 2 * PAGE_SIZE
    with private(size, mounted.path) as memory, private(3 * PAGE_SIZE, mounted.path) as other:
        memory[:2] = other[:2] = b"ab"
        for _ in range(2):
            with Child(lambda: (_state_in_child(memory), _state_in_child(other))) as child:
                assert child.said() == ("ENOSPC", "ab")
        with memoryview(memory) as view, Child(lambda: view[0]) as child:
            assert child.wait() == -signal.SIGSEGV
        assert memory[:2] == b"ab"
        other.close()
        memory.resize(PAGE_SIZE)
        with Child(_state_in_child, memory) as child:
            assert child.said() == "ab"


def test_memory_of_several_mounts_one_of_them_dead(mount_factory: Callable[..., Mounted]) -> None:
    one, other = mount_factory(), mount_factory()
    other.expected_status = -signal.SIGKILL
    with private(_SIZE, one.path) as first, private(_SIZE, other.path) as second:
        first[:2], second[:2] = b"11", b"22"
        with Child(lambda: (_state_in_child(first), _state_in_child(second))) as child:
            assert child.said() == ("11", "22")
        assert second[:2] == b"22"  # resident again: the first fork may have dropped it
        os.kill(other.process.pid, signal.SIGKILL)
        other.process.wait()
        with Child(lambda: (_state_in_child(first), _state_in_child(second))) as child:
            assert child.said() == ("11", "ENOTCONN")
        assert second[:2] == b"22"


def _tell_of_copies(memory: PrivateMemory, depth: int) -> None:
    """Say who has a copy of whose inode, in this process and those that it forks."""
    inode = os.fstat(memory.fileno()).st_ino
    say((os.getpid(), os.getppid(), inode))
    memory[0] = depth
    if depth:
        with Child(_tell_of_copies, memory, depth - 1) as child:
            say(child.said())
            hear()
    hear()


@pytest.mark.skipif(os.geteuid() != 0, reason="follows forks as they happen")
@pytest.mark.parametrize("beside_shared", [False, True])
def test_a_fork_is_told_as_a_dup(mounted: Mounted, beside_shared: bool) -> None:
    """Beside shared memory the kernel reports the forks, which copy that alone."""
    fs = connect(mounted.path)
    with contextlib.ExitStack() as stack:
        events = stack.enter_context(fs.watch(timeout=20))
        memory = stack.enter_context(fs.private(_SIZE))
        if beside_shared:
            stack.enter_context(fs.map("shared", PAGE_SIZE))
        inode = os.fstat(memory.fileno()).st_ino
        with Child(_tell_of_copies, memory, 1) as child:
            copies = child.said(), child.said()
            told = []
            for event in events:
                if event.pages == _PAGES:
                    told.append((event.event, event.pid, event.parent, event.inode))
                if len(told) == 1 + len(copies):
                    break
            assert told == [
                ("open", os.getpid(), None, inode),
                *(("dup", pid, parent, copy) for pid, parent, copy in copies),
            ]
            assert [area.pid for area in ring_of(memory.fileno())] == [os.getpid()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forks_that_bypass_python_get_no_memory(mounted: Mounted) -> None:
    libc = ctypes.CDLL(None)
    fs = connect(mounted.path)
    with fs.private(PAGE_SIZE) as memory, fs.anonymous(PAGE_SIZE) as shared:
        memory[0] = shared[0] = 1
        array = (ctypes.c_char * PAGE_SIZE).from_buffer(memory)
        pid = libc.fork()
        if pid == 0:
            faulthandler.disable()
            shared[0] = 2
            ctypes.memset(array, 3, 1)
            os._exit(0)
        assert _wait_for(pid) == -signal.SIGSEGV
        assert (memory[0], shared[0]) == (1, 2)
        # With a function to call it forks by Python, else by vfork(2).
        for function in (None, lambda: None):
            subprocess.run(["/bin/true"], check=True, preexec_fn=function)
        assert _wait_for(os.posix_spawn("/bin/true", ["true"], {})) == 0
        del array


def test_memory_outlives_an_unmount(mounted: Mounted) -> None:
    """Forks as well, although no path leads to the mount any more."""

    def live() -> None:
        memory = private(_SIZE, mounted.path)
        memory[:2] = b"ab"
        say("mapped")
        hear()
        with Child(_state_in_child, memory) as child:
            say(child.said())

    with Child(live) as child:
        assert child.said() == "mapped"
        subprocess.run(["fusermount3", "-u", "-z", mounted.path], check=True)
        child.tell()
        assert child.said() == "ab"
    assert mounted.process.wait(20) == 0


def test_attached_neighbours(mounted: Mounted) -> None:
    """The kernel reports forks of shared memory next to private memory, which changes neither."""
    fs = connect(mounted.path)
    with fs.private(_SIZE) as memory, fs.map("shared", _SIZE) as shared:
        memory[:2], shared[:2] = b"ab", b"AB"

        def change() -> tuple[bytes, bytes]:
            found = memory[:2], shared[:2]
            memory[:2], shared[:2] = b"cd", b"CD"
            memory.resize(2 * _SIZE)
            return found

        with Child(change) as child:
            assert child.said() == (b"ab", b"AB")
        assert (memory[:2], shared[:2]) == (b"ab", b"CD")
        with mmap.mmap(shared.fileno(), PAGE_SIZE) as again:
            assert again[:2] == b"CD"
