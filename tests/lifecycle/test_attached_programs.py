"""Attached processes that make processes in every way there is, and many of them.

After each, the ring is what /proc shows, and the stream of events has told each area once.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anonfs.client import attach
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import (
    all_areas_in_proc,
    areas_in_proc,
    place_in_proc,
    ring_in_order,
    ring_of,
)
from tests.lifecycle.told import listening
from tests.posix.children import SECONDS, Child, eventually, fork, hear, say
from tests.posix.memory import Mapping
from tests.posix.sharing import clone_sharing, vfork_sleeping
from tests.support.programs import environment, python, tied_to_us

_PAGES = 16
_STORM = 2000
_BATCH = 400

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon has forks reported"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture
def file(shared_mount: Path) -> Path:
    """An empty file of some pages."""
    path = shared_mount / "f"
    with path.open("wb") as new:
        new.truncate(_PAGES * PAGE_SIZE)
    return path


def _map(file: Path) -> tuple[int, Mapping]:
    """Map and attach; the descriptor and the mapping."""
    fd = os.open(file, os.O_RDWR)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    assert attach(fd)
    return fd, mapping


def _await_pids(file: Path) -> None:
    """Wait until each forked child is found among the processes."""
    eventually(lambda: None not in {area.pid for area in ring_of(file)}, "all are found")


# -- a storm ---------------------------------------------------------------------------------


def test_a_storm_of_forks(file: Path) -> None:
    batches = [_BATCH] * (_STORM // _BATCH)
    command = python("-m", "tests.lifecycle.storm", file, *batches)
    with listening(file) as told, _talking(command) as storm:
        begun = 0
        for batch in batches:
            _await_line(storm, "alive")
            begun += batch
            alive = batch // 2 + 1
            eventually(lambda alive=alive: told.areas == alive, "the others are gone")  # type: ignore[misc]
            _await_pids(file)
            ring = ring_in_order(file)
            assert len(ring) == alive
            assert ring == all_areas_in_proc(file)
            counts = told.counts()
            assert (counts["open"], counts["dup"]) == (1, begun)
            _tell(storm)
        eventually(lambda: told.areas == 0, "everybody is gone")
        assert ring_of(file) == []
        assert told.counts() == {"open": 1, "dup": _STORM, "close": _STORM + 1}


@contextlib.contextmanager
def _talking(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that ends with the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        tied_to_us(command), stdin=pipe, stdout=pipe, text=True, env=environment()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _await_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], SECONDS)[0]
    assert process.stdout.readline() == f"{line}\n"


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


# -- threads ---------------------------------------------------------------------------------

_THREADS, _FORKS, _AREAS = 2, 25, 50
_AT_ONCE = 4


def _areas_of_me(place: tuple[str, str]) -> int:
    with open("/proc/self/maps", encoding="utf-8") as maps:  # noqa: PTH123  this is a fork
        return sum(tuple(line.split()[3:5]) == place for line in maps)


class _Threads:
    """In a child: threads that fork, and others that do something else meanwhile."""

    def __init__(self, file: Path) -> None:
        self.fd, _ = _map(file)
        self.done = threading.Event()
        # The number alone may be that of a file of another mount, which pytest itself has mapped.
        self._place = place_in_proc(self.fd)
        self._all_forked = threading.Barrier(_THREADS + 1)
        self._inherited, self._born = os.pipe()
        self._pids: list[int] = []

    def run(self, others: Callable[[int], None]) -> None:
        """Say how many areas were inherited in all, and who is left."""
        for _ in range(_THREADS):
            threading.Thread(target=self._fork).start()
        threads = [threading.Thread(target=others, args=(number,)) for number in range(_THREADS)]
        for thread in threads:
            thread.start()
        counts = [os.read(self._inherited, 4) for _ in range(_THREADS * _FORKS)]
        # A child may say what it has before its pid is noted.
        self._all_forked.wait()
        self.done.set()
        for thread in threads:
            thread.join()
        say((sum(int.from_bytes(count, "little") for count in counts), self._pids))
        hear()

    def _fork(self) -> None:
        for number in range(_FORKS):
            stays = number % 24 == 0
            pid = fork()
            if pid == 0:
                os.write(self._born, _areas_of_me(self._place).to_bytes(4, "little"))
                if stays:
                    signal.pause()
                os._exit(0)
            if stays:
                self._pids.append(pid)
            else:
                os.waitpid(pid, 0)
        self._all_forked.wait()
        threading.Event().wait()  # its children end with it


def _fork_and_unmap(file: Path) -> None:
    threads = _Threads(file)
    mappings = [Mapping(threads.fd, 8 * PAGE_SIZE) for _ in range(_THREADS * _AREAS)]
    assert attach(threads.fd)

    def others(which: int) -> None:
        for number, mapping in enumerate(mappings[which::_THREADS]):
            for page in (1, 3, 5, 6):
                mapping.unmap(page * PAGE_SIZE, PAGE_SIZE)
            if number % 8:
                mapping.unmap()

    threads.run(others)


def _fork_and_map(file: Path) -> None:
    threads = _Threads(file)

    def others(_: int) -> None:
        while not threads.done.is_set():
            mapping = Mapping(threads.fd, 4 * PAGE_SIZE)
            attach(threads.fd)
            mapping.unmap(PAGE_SIZE, PAGE_SIZE)
            mapping.unmap()

    threads.run(others)


@pytest.mark.parametrize("program", [_fork_and_unmap, _fork_and_map])
def test_threads_fork_while_others_map_or_unmap(
    file: Path, program: Callable[[Path], None]
) -> None:
    with listening(file) as told, Child(program, file) as child:
        inherited, pids = child.said()
        _await_pids(file)
        ring = ring_in_order(file)
        there = areas_in_proc(file, [child.pid, *pids])
        assert told.areas == len(ring)
        if program is _fork_and_unmap:
            assert ring == there
            assert told.counts()["dup"] == inherited
        else:  # a fork can come between a mmap and its attachment
            assert [replace(area, how="attached") for area in ring] == there
        child.kill()
        child.wait()
        eventually(lambda: not ring_of(file), "everybody is gone")
        assert told.areas == 0


def _attach_at_once(file: Path) -> None:
    """Threads map and attach at the same time, then the process forks."""
    fd = os.open(file, os.O_RDWR)
    together = threading.Barrier(_AT_ONCE)
    attached: list[bool] = []

    def attaches() -> None:
        together.wait()
        Mapping(fd, PAGE_SIZE)
        attached.append(attach(fd))

    threads = [threading.Thread(target=attaches) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pid = fork()
    if pid == 0:
        signal.pause()
    say((pid, attached))
    hear()


def test_threads_attach_at_once(file: Path) -> None:
    for _ in range(10):
        with listening(file) as told, Child(_attach_at_once, file) as child:
            pid, attached = child.said()
            assert attached == [True] * _AT_ONCE
            assert ring_in_order(file) == areas_in_proc(file, [child.pid, pid])
            assert told.counts()["dup"] == told.areas / 2
        eventually(lambda: not ring_of(file), "both are gone")


def test_exec_from_a_thread(file: Path) -> None:
    def program() -> None:
        _map(file)
        threading.Thread(target=threading.Event().wait).start()
        say("mapped")
        hear()
        threading.Thread(target=os.execvp, args=("sleep", ["sleep", "60"])).start()
        threading.Event().wait()

    with listening(file) as told, Child(program) as child:
        assert child.said() == "mapped"
        assert ring_in_order(file) == areas_in_proc(file, [child.pid])
        child.tell()
        child.await_exec()
        assert ring_of(file) == all_areas_in_proc(file) == []
        assert told.counts() == {"open": 1, "close": 1}


# -- processes that share the address space -----------------------------------------------------


def _spawn() -> int:
    return os.posix_spawn("/bin/sleep", ["sleep", "60"], {})


def _vfork() -> int:
    return subprocess.Popen(["/bin/sleep", "60"]).pid


@pytest.mark.parametrize("spawn", [_spawn, _vfork])
def test_what_is_spawned_inherits_nothing(file: Path, spawn: Callable[[], int]) -> None:
    def program() -> None:
        _map(file)
        pids = [spawn() for _ in range(10)]
        say("spawned")
        hear()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        say("ended")
        hear()

    with listening(file) as told, Child(program) as child:
        for state in ("spawned", "ended"):
            assert child.said() == state
            assert ring_in_order(file) == areas_in_proc(file, [child.pid])
            child.tell()
        assert told.counts()["dup"] == 0
        eventually(lambda: not ring_of(file), "it is gone")
        assert told.areas == 0


@pytest.mark.parametrize("share", [clone_sharing, vfork_sleeping])
@pytest.mark.parametrize("attached", [True, False])
def test_a_shared_address_space_has_its_areas_once(
    file: Path, share: Callable[[], int], attached: bool
) -> None:
    def program() -> None:
        fd = os.open(file, os.O_RDWR)
        mapping = Mapping(fd, _PAGES * PAGE_SIZE)
        if attached:
            assert attach(fd)
        say(share())
        hear()
        mapping.unmap(4 * PAGE_SIZE, PAGE_SIZE)
        say("unmapped")
        hear()

    how = "attached" if attached else "observed"
    with listening(file) as told, Child(program) as child:
        sharing = child.said()
        pidfd = os.pidfd_open(sharing)
        try:
            assert ring_in_order(file) == areas_in_proc(file, [child.pid], how)
            child.tell()
            assert child.said() == "unmapped"
            assert ring_in_order(file) == areas_in_proc(file, [child.pid], how)
            assert (told.areas, told.counts()["dup"]) == (2, 0)
            closed = told.counts()["close"]
            child.kill()
            child.wait()
            # Of the process that is left nobody tells: it is found.
            eventually(lambda: told.counts()["close"] == closed + 2, "the first one is gone")
            eventually(lambda: told.areas == 2, "they are the other's now")
            assert ring_in_order(file) == areas_in_proc(file, [sharing], "observed")
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        eventually(lambda: not ring_of(file), "both are gone")
        assert told.areas == 0


def test_an_exec_leaves_the_address_space_to_who_shares_it(file: Path) -> None:
    def program() -> None:
        _map(file)
        say(clone_sharing())
        hear()
        os.execvp("sleep", ["sleep", "60"])  # noqa: S606  no shell

    with listening(file) as told, Child(program) as child:
        sharing = child.said()
        pidfd = os.pidfd_open(sharing)
        try:
            child.tell()
            eventually(lambda: told.counts()["close"] == 1, "the exec is noticed")
            eventually(lambda: told.areas == 1, "the other one has the area now")
            assert ring_in_order(file) == areas_in_proc(file, [sharing], "observed")
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        eventually(lambda: not ring_of(file), "nobody is left")
        assert told.areas == 0
