"""Rings told by the kernel of real processes: no inspection, no background pass, real files.

Every look that is made here is made because of an event, so what is told to the operations, and
what is in the ring in the end, came by the proc connector alone.
"""

import ctypes
import os
import platform
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Self, cast

import pytest
import trio
import trio.testing

from anonfs.units import PAGE_SIZE, Ino
from anonfs.vfs import FileSystem
from anonfs.vm import ProcessMaps, ShareRing, VmArea
from anonfsd import _rings
from anonfsd._proc_events import ProcConnector
from anonfsd._rings import Rings
from anonfsd.procfs import scan
from tests.posix.children import STRANGER, Child, eventually, hear, say
from tests.posix.memory import Mapping
from tests.posix.sharing import clone_sharing, vfork_sleeping
from tests.support.programs import python, tied_to_us
from tests.vm.fakes import FakeInode, Recorder

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="process events are for root"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]

_PAGES = 4
_SECONDS = 60.0
_STORM = 2000
_SYS_EXIT = {"x86_64": 60, "aarch64": 93}
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


class OpenInode(FakeInode):
    """An inode that may have areas."""

    opens = 1


class Teller(Recorder):
    """Says who had an area opened, dupped (and from whom) or closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, int | None, int | None]] = []

    def open(self, area: VmArea) -> None:
        super().open(area)
        self.told.append(("open", area.pid, 0))

    def dup(self, parent_area: VmArea, child_area: VmArea) -> None:
        super().dup(parent_area, child_area)
        self.told.append(("dup", child_area.pid, parent_area.pid))

    def close(self, area: VmArea) -> None:
        super().close(area)
        self.told.append(("close", area.pid, 0))


class Followed:
    """Rings over a file at ``path``, which follow the events in an event loop of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        status = path.stat()
        self.device = os.major(status.st_dev), os.minor(status.st_dev)
        self.inode = OpenInode(Ino(status.st_ino))
        self.teller = Teller()
        self.failure: BaseException | None = None
        filesystem = SimpleNamespace(inodes={self.inode.ino: self.inode}, opens=1)
        self.rings = Rings(cast("FileSystem", filesystem), self.device, self.teller)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._connector = ProcConnector.subscribe()
        self._thread.start()
        assert self._started.wait(_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(_SECONDS)
        self._connector.close()
        assert self.failure is None, self.failure
        self.rings.spaces.check_invariants()
        assert set(ShareRing(self.inode)) == self.teller.alive

    def _run(self) -> None:
        try:
            trio.run(self._follow)
        except BaseException as error:  # noqa: BLE001  the test is told
            self.failure = error

    async def _follow(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.rings.follow, self._connector)
                await trio.testing.wait_all_tasks_blocked()
                self._started.set()

    def opened(self, pid: int) -> None:
        """As at an OPEN."""
        self._token.run_sync_soon(self.rings.note_open, pid)

    def closed(self, pid: int) -> None:
        """As at a FLUSH: whoever opened it may have mapped it."""
        self._token.run_sync_soon(self.rings.note_close, pid)

    def spans(self) -> list[tuple[int | None, int, int]]:
        """(pid, start, end) of the areas of the ring."""
        try:
            areas = list(ShareRing(self.inode))
        except RuntimeError:  # it changed meanwhile
            return []
        areas.sort(key=lambda area: (area.pid or 0, area.start))
        return [(area.pid, area.start, area.end) for area in areas]

    def proc(self) -> list[tuple[int, int, int]]:
        """The same as /proc has it, by other means than the daemon's."""
        shown = f"{self.device[0]:02x}:{self.device[1]:02x}"
        found = set()
        for process in Path("/proc").glob("[0-9]*"):
            # Of all threads: the first one may have ended, and shows nothing.
            for maps in process.glob("task/*/maps"):
                try:
                    text = maps.read_text(encoding="utf-8", errors="replace")
                except (FileNotFoundError, ProcessLookupError, PermissionError):
                    continue
                for fields in map(str.split, text.splitlines()):
                    if (fields[3], fields[4]) == (shown, str(self.inode.ino)):
                        start, end = (int(part, 16) for part in fields[0].split("-"))
                        found.add((int(process.name), start, end))
        return sorted(found)

    def await_truth(self) -> list[tuple[int, int, int]]:
        """Wait until the ring is what /proc shows, which does not change meanwhile."""
        truth = self.proc()
        eventually(lambda: self.spans() == truth, "the ring is what /proc shows")
        return truth

    def await_told(self, *told: tuple[str, int, int]) -> None:
        """Wait until all of this has been told; when more has been, the order counts."""

        def complete() -> bool:
            rest = iter(list(self.teller.told))
            return all(line in rest for line in told)

        eventually(complete, f"{told} among {self.teller.told}")


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[Followed]:
    path = tmp_path / "f"
    path.write_bytes(bytes(_PAGES * PAGE_SIZE))
    path.chmod(0o666)
    with Followed(path) as followed:
        yield followed


def _map(path: Path) -> Mapping:
    """Map the file and close it; the test tells the rings."""
    fd = os.open(path, os.O_RDWR)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)
    os.close(fd)
    say("mapped")
    hear()
    return mapping


def _fork(body: Callable[[], object] = signal.pause) -> int:
    """A child that ends with its parent."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                body()
        finally:
            os._exit(0)
    return pid


def _mapped(followed: Followed, child: Child) -> None:
    """See ``child`` through its `_map`."""
    followed.opened(child.pid)
    assert child.said() == "mapped"
    followed.closed(child.pid)
    followed.await_told(("open", child.pid, 0))
    child.tell()


def test_fork_and_exit_are_told(followed: Followed) -> None:
    def script() -> None:
        _map(followed.path)
        for _ in range(2):
            say(_fork())
            hear()
        hear()

    with Child(script) as child:
        _mapped(followed, child)
        first = child.said()
        followed.await_told(("dup", first, child.pid))
        child.tell()
        second = child.said()
        followed.await_told(("dup", second, child.pid))
        assert [pid for pid, *_ in followed.await_truth()] == sorted([child.pid, first, second])
        os.kill(first, signal.SIGKILL)
        followed.await_told(("dup", first, child.pid), ("close", first, 0))
        child.kill()
        followed.await_told(("close", child.pid, 0))
        followed.await_told(("close", second, 0))
    assert followed.await_truth() == []


def test_a_fork_of_a_fork_of_a_fork_is_told(followed: Followed) -> None:
    def generation(depth: int) -> None:
        if depth:
            _fork(lambda: generation(depth - 1))
        signal.pause()

    def script() -> None:
        _map(followed.path)
        generation(5)

    with Child(script) as child:
        _mapped(followed, child)
        eventually(lambda: len(followed.spans()) == 6, "all generations are in the ring")
        followed.await_truth()
        whats = Counter(what for what, *_ in followed.teller.told)
        assert whats == {"open": 1, "dup": 5}


def test_a_process_that_keeps_its_descriptor_is_known_by_its_open(followed: Followed) -> None:
    def script() -> None:
        hear()
        Mapping(os.open(followed.path, os.O_RDWR), _PAGES * PAGE_SIZE)
        say(_fork())
        hear()

    with Child(script) as child:
        followed.opened(child.pid)
        child.tell()
        grandchild = child.said()
        eventually(lambda: len(followed.spans()) == 2, "both are in the ring")
        assert {pid for pid, *_ in followed.await_truth()} == {child.pid, grandchild}


def test_exec_is_told(followed: Followed) -> None:
    def script() -> None:
        _map(followed.path)
        os.execvp("sleep", ["sleep", "60"])  # noqa: S606  no shell

    with Child(script) as child:
        _mapped(followed, child)
        followed.await_told(("open", child.pid, 0), ("close", child.pid, 0))
        assert followed.await_truth() == []


def test_exec_from_a_thread_is_told(followed: Followed) -> None:
    def script() -> None:
        _map(followed.path)
        thread = threading.Thread(target=os.execvp, args=("sleep", ["sleep", "60"]))
        thread.start()
        thread.join()

    with Child(script) as child:
        _mapped(followed, child)
        followed.await_told(("open", child.pid, 0), ("close", child.pid, 0))
        child.await_exec()
        assert followed.await_truth() == []


def test_threads_that_come_and_go_change_nothing(followed: Followed) -> None:
    def script() -> None:
        _map(followed.path)
        for _ in range(50):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
        say(_fork())
        hear()

    with Child(script) as child:
        _mapped(followed, child)
        grandchild = child.said()
        followed.await_told(("dup", grandchild, child.pid))
        assert len(followed.teller.told) == 2


@pytest.mark.skipif(platform.machine() not in _SYS_EXIT, reason="needs the number of exit")
def test_a_process_outlives_its_first_thread_and_ends_with_its_last(followed: Followed) -> None:
    def script() -> None:
        _map(followed.path)

        def last() -> None:
            while b") Z " not in Path("/proc/self/stat").read_bytes():
                os.sched_yield()
            say("alone")
            hear()

        threading.Thread(target=last).start()
        _libc.syscall(_SYS_EXIT[platform.machine()], 0)

    with Child(script) as child:
        _mapped(followed, child)
        assert child.said() == "alone"
        assert [pid for pid, *_ in followed.await_truth()] == [child.pid]
        assert followed.teller.told == [("open", child.pid, 0)]
        child.kill()
        followed.await_told(("close", child.pid, 0))
        assert followed.await_truth() == []


def test_posix_spawn_and_vfork_leave_nothing(followed: Followed) -> None:
    def script() -> None:
        _map(followed.path)
        spawned = os.posix_spawn("/bin/sleep", ["sleep", "60"], os.environ)
        with subprocess.Popen(["sleep", "60"]) as vforked:  # vfork, where nothing prevents it
            say([spawned, vforked.pid])
            hear()
            vforked.kill()
            os.kill(spawned, signal.SIGKILL)
        os.waitpid(spawned, 0)
        say("killed")
        hear()

    with Child(script) as child:
        _mapped(followed, child)
        child.said()
        assert [pid for pid, *_ in followed.await_truth()] == [child.pid]
        child.tell()
        assert child.said() == "killed"
        assert [pid for pid, *_ in followed.await_truth()] == [child.pid]


@pytest.mark.parametrize("share", [clone_sharing, vfork_sleeping])
def test_a_process_that_shares_its_memory_with_another(
    followed: Followed, share: Callable[[], int]
) -> None:
    """It has no areas, and those that it forks have them from its parent, whom it outlives."""

    def script() -> None:
        _map(followed.path)
        say(share())
        say(_fork())
        hear()

    with Child(script) as child:
        _mapped(followed, child)
        sharing, forked = child.said(), child.said()
        followed.await_told(("dup", forked, child.pid))
        assert [pid for pid, *_ in followed.spans()] == sorted([child.pid, forked])
        pidfd = os.pidfd_open(sharing)
        try:
            os.kill(forked, signal.SIGKILL)
            child.kill()
            followed.await_told(("close", child.pid, 0))
            assert [pid for pid, *_ in followed.await_truth()] == [sharing]
        finally:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        followed.await_told(("close", sharing, 0))
    assert followed.await_truth() == []


def test_processes_of_another_user(followed: Followed) -> None:
    fd = os.open(followed.path, os.O_RDWR)

    def script() -> None:
        Mapping(fd, _PAGES * PAGE_SIZE)
        os.close(fd)
        say("mapped")
        hear()
        say(_fork())
        hear()

    with Child(script, user=STRANGER) as child:
        _mapped(followed, child)
        grandchild = child.said()
        followed.await_told(("dup", grandchild, child.pid))
        users = {area.uid for area in ShareRing(followed.inode)}
        assert users == {STRANGER.uid}
        os.kill(grandchild, signal.SIGKILL)
        followed.await_told(("close", grandchild, 0))
    os.close(fd)
    assert followed.await_truth() == []


def test_lost_events_lead_to_a_look_at_everybody(followed: Followed) -> None:
    with Child(_map, followed.path) as child:
        assert child.said() == "mapped"
        followed._token.run_sync_soon(followed.rings.processes.lost)
        followed.await_told(("open", child.pid, 0))
        assert followed.await_truth()


# Alone in its pid namespace, so that all of it ends with it; its children run pause in the C
# library and touch next to nothing.
_FORKER = """
import ctypes, mmap, os, signal, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
fd = os.open(sys.argv[1], os.O_RDWR)
memory = mmap.mmap(fd, 0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("mapped", flush=True)
sys.stdin.readline()
stack = ctypes.create_string_buffer(65536)
top = ctypes.c_void_p((ctypes.addressof(stack) + 65536) & ~15)
pids = []
for _ in range(int(sys.argv[2])):
    pids.append(libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), top, signal.SIGCHLD, None))
    assert pids[-1] > 0
print("forked", flush=True)
sys.stdin.readline()
for pid in pids[::2]:
    os.kill(pid, signal.SIGKILL)
print("killed", flush=True)
sys.stdin.readline()
"""


def test_a_storm_of_forks_ends_in_the_truth(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []

    def counted(
        device: tuple[int, int], pids: Collection[int] | None, own: Collection[tuple[int, int]]
    ) -> list[ProcessMaps]:
        looks.append(len(pids) if pids is not None else -1)
        return scan(device, pids, own)

    monkeypatch.setattr(_rings, "scan", counted)
    unshared = ["unshare", "--pid", "--fork", "--kill-child"]
    command = [*unshared, *python("-S", "-c", _FORKER, followed.path, _STORM)]
    with subprocess.Popen(
        tied_to_us(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def say_on() -> None:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]

        try:
            assert process.stdout.readline() == "mapped\n"
            [(forker, *_)] = followed.proc()
            followed.opened(forker)
            followed.closed(forker)
            followed.await_told(("open", forker, 0))
            say_on()
            assert process.stdout.readline() == "forked\n"
            assert len(followed.await_truth()) == _STORM + 1
            whats = Counter(what for what, *_ in followed.teller.told)
            assert whats == {"open": 1, "dup": _STORM}
            assert -1 not in looks
            say_on()
            assert process.stdout.readline() == "killed\n"
            eventually(lambda: len(followed.proc()) == _STORM // 2 + 1, "half of them have ended")
            assert len(followed.await_truth()) == _STORM // 2 + 1
        finally:
            process.kill()
    eventually(lambda: followed.proc() == [], "all of them have ended")
    assert followed.await_truth() == []
    whats = Counter(what for what, *_ in followed.teller.told)
    assert whats == {"open": 1, "dup": _STORM, "close": _STORM + 1}
