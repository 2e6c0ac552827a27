"""Mounts for tests come, and go without a trace whatever happens to their daemon."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mountinfo import mount_at, mount_holding
from tests.support.mounts import DaemonRefusedError, Mounted, UncleanError
from tests.support.programs import environment, python

_SECONDS = 60.0


def _nothing_left(mounted: Mounted) -> bool:
    gone = mounted.process.poll() is not None and mount_at(mounted.path) is None
    return gone and not mounted.workplace.exists() and mounted not in Mounted.live


@pytest.fixture
def fragile(can_mount: None) -> Iterator[Mounted]:
    """A mount that the test breaks and stops."""
    del can_mount
    mounted = Mounted()
    mounted.start()
    assert mounted.responds()
    yield mounted
    if mounted in Mounted.live:
        mounted.stop()


def test_a_mount_works_and_leaves_nothing(fragile: Mounted) -> None:
    (fragile.path / "file").write_bytes(b"data")
    assert (fragile.path / "file").read_bytes() == b"data"
    assert fragile.responds()
    assert mount_holding(fragile.path / "file") == fragile.mount
    assert fragile.stop() == []
    assert _nothing_left(fragile)
    assert "mounted" in fragile.last_log


@pytest.mark.parametrize("_turn", range(5))
def test_a_mount_may_be_stopped_at_once(can_mount: None, _turn: int) -> None:
    del can_mount
    mounted = Mounted()
    mounted.start()
    assert mounted.stop() == []


def test_a_shared_mount_gives_a_directory_of_its_own(shared_mount: Path) -> None:
    assert list(shared_mount.iterdir()) == []
    (shared_mount / "file").write_bytes(b"data")


def _hang(mounted: Mounted) -> None:
    """Let the daemon hang, for which nobody is to wait long when it does not end."""
    mounted.hang()
    mounted.stop_seconds = 2.0


@pytest.fixture
def fusectl() -> None:
    """Skips where a connection cannot be aborted: a user needs what most systems mount at boot."""
    if os.geteuid() != 0 and mount_at("/sys/fs/fuse/connections") is None:
        pytest.skip("fusectl is not mounted, and only root can mount it")


@pytest.mark.usefixtures("fusectl")
def test_a_daemon_that_hangs_is_ended(fragile: Mounted) -> None:
    _hang(fragile)
    assert fragile.stop()[-3:] == ["connection aborted", "killed", "unmounted"]
    assert _nothing_left(fragile)


@pytest.mark.usefixtures("fusectl")
def test_whoever_waits_for_a_daemon_that_hangs_is_freed(fragile: Mounted) -> None:
    _hang(fragile)
    assert not fragile.responds(0.2)
    assert "connection aborted" in fragile.stop()
    assert _nothing_left(fragile)


def test_a_daemon_that_died_is_reported(fragile: Mounted) -> None:
    fragile.process.kill()
    fragile.process.wait()
    assert "daemon's exit status is -9, not 0" in fragile.stop()
    assert _nothing_left(fragile)


def test_a_daemon_may_be_expected_to_die(fragile: Mounted) -> None:
    fragile.expected_status = -signal.SIGKILL
    fragile.process.kill()
    fragile.process.wait()
    assert fragile.stop() == []
    assert _nothing_left(fragile)


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "x ERROR something"])
def test_a_bad_log_is_reported_unless_expected(fragile: Mounted, line: str) -> None:
    with (fragile.workplace / "log").open("a") as log:
        log.write(f"{line}\n")
    fragile.expects_errors = "ERROR" in line
    assert bool(fragile.stop()) == (not fragile.expects_errors)
    assert _nothing_left(fragile)


def test_what_was_not_clean_is_raised(can_mount: None) -> None:
    del can_mount
    with pytest.raises(UncleanError, match="exit status is -9"), Mounted() as mounted:
        mounted.process.kill()


def test_a_failing_test_is_not_hidden_by_what_was_not_clean(can_mount: None) -> None:
    del can_mount
    with pytest.raises(ZeroDivisionError) as raised, Mounted() as mounted:
        _kill_and_fail(mounted)
    assert any("exit status is -9" in note for note in raised.value.__notes__)


def _kill_and_fail(mounted: Mounted) -> None:
    mounted.process.kill()
    raise ZeroDivisionError


def test_a_program_that_takes_too_long_ends_the_mount(fragile: Mounted) -> None:
    with pytest.raises(UncleanError, match=r"not done after 0\.3 s"):
        fragile.run(["sleep", "1000"], 0.3)
    fragile.stop()
    assert _nothing_left(fragile)


def test_a_daemon_that_refuses_says_why(can_mount: None) -> None:
    del can_mount
    mounted = Mounted(budget="1M")
    with pytest.raises(DaemonRefusedError, match="too small") as raised:
        mounted.start()
    assert raised.value.line.startswith("error: ")
    assert raised.value.status == 2
    assert _nothing_left(mounted)


def test_a_program_runs_beside_the_mount(mounted: Mounted) -> None:
    done = mounted.run(["sh", "-c", "echo out; echo err >&2; exit 3"], _SECONDS)
    assert (done.status, sorted(done.output.split())) == (3, ["err", "out"])
    with pytest.raises(UncleanError, match="exit status 3"):
        done.check()


def test_a_killed_test_run_leaves_nothing(can_mount: None) -> None:
    del can_mount
    run = subprocess.Popen(
        python("-m", "tests.support.test_mounts"),
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert run.stdout is not None
    line = run.stdout.readline()
    found = re.fullmatch(r"(\d+) (\d+) (\S+)\n", line)
    assert found is not None, line
    pidfds = [os.pidfd_open(int(pid)) for pid in found.groups()[:2]]
    run.kill()
    run.communicate()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], _SECONDS)[0] == [pidfd]
        os.close(pidfd)
    assert mount_at(f"{found[3]}/mnt") is None
    assert not Path(found[3]).exists()


def _be_a_test_run() -> None:
    """Tell of a mount whose daemon hangs, and wait to be killed."""
    with Mounted() as mounted:
        assert mounted._guard is not None
        mounted.hang()
        pids = f"{mounted._guard.pid} {mounted.process.pid}"
        sys.stdout.write(f"{pids} {mounted.workplace}\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    _be_a_test_run()
