"""How mounts end, and what their users have then."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from anonfs.client import meminfo
from anonfs.units import PAGE_SIZE
from tests.lifecycle.places import Place, Started, anonfs, anonfs_mount, program
from tests.posix.children import Child, eventually, hear, say
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mountinfo import mount_at
from tests.support.mounts import Mounted
from tests.support.programs import environment, python

_SECONDS = 60.0
_PAGES = 64
_FAR = 4 << 20
_GRACE = 4.0
"""Less than the daemon waits for others to be done."""


def _use(path: Path) -> None:
    """Holds a file open and mapped, half of it dirty, and says what it can read when asked."""
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 2 * _FAR)
    mapping = Mapping(fd, _FAR + PAGE_SIZE)
    mapping.write(0, b"resident" * (_PAGES * PAGE_SIZE // 8))
    say("mapped")
    while (what := hear()) != "end":
        if what == "resident":
            say(mapping.read(0, _PAGES * PAGE_SIZE) == b"resident" * (_PAGES * PAGE_SIZE // 8))
        elif what == "store":
            mapping.write(0, b"RESIDENT")
            say(mapping.read(0, 8))
        elif what == "call":
            say(outcome(os.pread, fd, 1, _FAR + 100 * PAGE_SIZE))
        elif what == "fault":
            say(mapping.read(_FAR, 1))
    say("ends")


@contextlib.contextmanager
def _user_of(path: Path) -> Iterator[Callable[[str], object]]:
    """A process that uses ``path``, asked by a word."""
    with Child(_use, path) as child:
        assert child.said() == "mapped"

        def ask(what: str) -> object:
            child.tell(what)
            if what == "fault":
                return child.wait()
            return child.said()

        yield ask


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_mount_in_use(mounted: Mounted, number: signal.Signals) -> None:
    with _user_of(mounted.path / "f") as ask:
        mounted.process.send_signal(number)
        assert mounted.process.wait(_SECONDS) == 0
        assert mount_at(mounted.path) is None
        assert ask("resident") is True
        assert ask("store") == b"RESIDENT"
        assert ask("call") == "ENOTCONN"
        assert ask("fault") == -signal.SIGBUS


def _reclaims(mount: Path) -> bool:
    return meminfo(mount).counters.swap_out > 0


def _write_for_ever(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        say("writes")
        while True:
            file.write(b"x" * _FAR)
            file.seek(0)


def test_a_signal_ends_a_mount_whose_users_never_rest(
    mount_factory: Callable[..., Mounted],
) -> None:
    """Reclaim waits for the locks of inodes that users have, and they for answers."""
    for _ in range(3):
        mounted = mount_factory(budget="4M", arguments=())
        with contextlib.ExitStack() as users:
            for name in "abc":
                child = users.enter_context(Child(_write_for_ever, mounted.path / name))
                assert child.said() == "writes"
            eventually(partial(_reclaims, mounted.path), "reclaim is at work")
            mounted.process.terminate()
            assert mounted.process.wait(_SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_mount(mounted: Mounted, number: signal.Signals) -> None:
    (mounted.path / "f").write_bytes(b"x")
    mounted.process.send_signal(number)
    assert mounted.process.wait(_SECONDS) == 0
    assert mount_at(mounted.path) is None


def test_the_daemon_keeps_no_mount_alive_itself(mounted: Mounted) -> None:
    """It opened a file to have it swapped out, and has nothing more to do with it."""
    path = mounted.path / "f"
    path.write_bytes(b"x" * PAGE_SIZE)
    os.setxattr(path, "user.anonfs.swapout", b"all")
    subprocess.run([program("umount"), str(mounted.path)], check=True)
    began = time.monotonic()
    assert mounted.process.wait(_SECONDS) == 0
    assert time.monotonic() - began < _GRACE


def test_more_signals_are_harmless(mounted: Mounted) -> None:
    with _user_of(mounted.path / "f") as ask:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            mounted.process.send_signal(number)
        assert mounted.process.wait(_SECONDS) == 0
        assert ask("resident") is True


def test_unmounting_ends_the_daemon(mounted: Mounted) -> None:
    (mounted.path / "f").write_bytes(b"x")
    subprocess.run(["fusermount3", "-u", str(mounted.path)], check=True, timeout=_SECONDS)
    assert mounted.process.wait(_SECONDS) == 0


def test_unmounting_after_a_swap_out_ends_the_daemon(mounted: Mounted) -> None:
    """The daemon had opened the file itself, in a copy of the mount."""
    (mounted.path / "f").write_bytes(b"x" * PAGE_SIZE)
    os.setxattr(mounted.path / "f", "user.anonfs.swapout", b"all")
    subprocess.run(["fusermount3", "-u", str(mounted.path)], check=True, timeout=_SECONDS)
    assert mounted.process.wait(_SECONDS) == 0


def test_a_mount_in_use_is_not_unmounted(mounted: Mounted) -> None:
    with _user_of(mounted.path / "f") as ask:
        command = ["fusermount3", "-u", str(mounted.path)]
        done = subprocess.run(command, check=False, capture_output=True, timeout=_SECONDS)
        assert done.returncode != 0
        assert ask("call") == b"\0"
        assert mounted.responds()


def test_a_lazy_unmount_leaves_the_mount_to_its_users(mounted: Mounted) -> None:
    with _user_of(mounted.path / "f") as ask:
        command = ["fusermount3", "-u", "-z", str(mounted.path)]
        subprocess.run(command, check=True, timeout=_SECONDS)
        assert mount_at(mounted.path) is None
        assert ask("call") == b"\0"
        assert ask("resident") is True
        assert mounted.process.poll() is None
        assert ask("end") == "ends"
    assert mounted.process.wait(_SECONDS) == 0


def test_a_killed_daemon_leaves_what_is_resident(mounted: Mounted) -> None:
    mounted.expected_status = -signal.SIGKILL
    with _user_of(mounted.path / "f") as ask:
        mounted.process.kill()
        assert mounted.process.wait(_SECONDS) == -signal.SIGKILL
        assert ask("resident") is True
        assert ask("call") in {"ENOTCONN", "ECONNABORTED"}
        assert mount_at(mounted.path) is not None
        assert ask("fault") == -signal.SIGBUS


def test_who_kills_daemons_by_name_leaves_the_guard(mounted: Mounted) -> None:
    """It is what ends the connection of a daemon that cannot even die."""
    mounted.expected_status = -signal.SIGKILL
    (guard,) = psutil.Process(mounted.process.pid).children()
    assert guard.cmdline()[0] == f"anonfs-guard {mounted.path}"
    assert guard.name() == "anonfs-guard"
    mounted.process.kill()
    assert mounted.process.wait(_SECONDS) == -signal.SIGKILL
    guard.wait(_SECONDS)


def _daemon_of(place: Place) -> int:
    (pid,) = place.daemons()
    return pid


def test_mounting_and_unmounting_by_command(place: Place) -> None:
    assert anonfs_mount(place) == Started(None, "")
    pid = _daemon_of(place)
    assert os.getsid(pid) == pid
    (place.point / "f").write_bytes(b"x")
    done = anonfs("umount", str(place.point))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mount_at(place.point) is None
    eventually(lambda: not place.daemons(), "the daemon has ended")
    place.check_nothing_left()
    log = place.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert " ERROR " not in log


def test_unmounting_by_command_while_in_use(place: Place) -> None:
    assert anonfs_mount(place) == Started(None, "")
    with _user_of(place.point / "f") as ask:
        done = anonfs("umount", str(place.point))
        assert done.returncode == 0
        assert "in use" in done.stdout
        assert mount_at(place.point) is None
        assert ask("call") == b"\0"
        assert ask("end") == "ends"
    eventually(lambda: not place.daemons(), "the daemon has ended")


def _kill(place: Place) -> None:
    pidfd = os.pidfd_open(_daemon_of(place))
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    eventually(lambda: not place.daemons(), "the daemon is dead")
    assert mount_at(place.point) is not None
    assert outcome(os.stat, place.point) in {"ENOTCONN", "ECONNABORTED"}


def test_the_mount_of_a_killed_daemon_is_replaced(place: Place) -> None:
    assert anonfs_mount(place) == Started(None, "")
    (place.point / "old").touch()
    _kill(place)
    assert anonfs_mount(place) == Started(None, "")
    assert not list(place.point.iterdir())
    (place.point / "new").write_bytes(b"works")
    assert (place.point / "new").read_bytes() == b"works"


def test_the_mount_of_a_killed_daemon_is_unmounted(place: Place) -> None:
    assert anonfs_mount(place) == Started(None, "")
    _kill(place)
    done = anonfs("umount", str(place.point))
    assert done.returncode == 0
    assert done.stderr == ""
    place.check_nothing_left()


def _swap_of(mounted: Mounted) -> os.stat_result:
    """The stat of the file without a name that a daemon has open on the disk of its swap."""
    for fd in Path(f"/proc/{mounted.process.pid}/fd").iterdir():
        name = str(fd.readlink())
        if name.startswith(f"{mounted.workplace}/") and name.endswith(" (deleted)"):
            return fd.stat()
    raise AssertionError("no swap file")


def test_a_swap_file_has_no_name_while_in_use(mounted: Mounted) -> None:
    swap = mounted.workplace / "swap"
    found = _swap_of(mounted)
    assert found.st_mode & 0o7777 == 0o600
    assert found.st_nlink == 0
    assert found.st_size == 256 << 20
    assert not swap.exists()


def test_a_swap_file_may_be_kept(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory(arguments=["--keep-swap"], swap_size="1M")
    swap = mounted.workplace / "swap"
    assert swap.stat().st_mode & 0o7777 == 0o600
    path = mounted.path / "f"
    path.write_bytes(b"secret" * 2000)
    os.setxattr(path, "user.anonfs.swapout", b"all")
    mounted.process.terminate()
    assert mounted.process.wait(_SECONDS) == 0
    assert swap.stat().st_size == 1 << 20
    assert b"secret" * 600 in swap.read_bytes()


_TERMINATED_TOO_SOON = """
import os, signal, sys
from anonfsd import __main__ as program, _server

def terminated(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)

_server._Server.__init__ = terminated
program.main()
"""


def test_a_signal_before_anything_is_served_leaves_no_mount(place: Place) -> None:
    command = python("-c", _TERMINATED_TOO_SOON, place.point, *place.options())
    done = subprocess.run(command, env=environment(), check=False, timeout=_SECONDS)
    assert done.returncode == 0
    place.check_nothing_left()


def test_nobody_keeps_the_pipe_of_the_ready_line_open(place: Place) -> None:
    reader, writer = os.pipe()
    command = [*python("-m", "anonfsd"), str(place.point), *place.options()]
    with subprocess.Popen(
        [*command, "--ready-fd", str(writer)],
        pass_fds=[writer],
        env=environment(),
        stderr=subprocess.DEVNULL,
    ) as daemon:
        os.close(writer)
        with open(reader, "rb") as answer:  # noqa: PTH123  a descriptor
            assert answer.read() == b"ready\n"
        daemon.terminate()
        assert daemon.wait(_SECONDS) == 0
