"""anonfs shm-exec: what becomes of the program and of all around it, however any of them ends."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lifecycle.places import anonfs
from tests.posix.children import eventually
from tests.support.programs import python
from tests.support.shm_exec import ShmExec

_SECONDS = 60.0

Factory = Callable[..., ShmExec]

_HOLD = """
import mmap, os, sys
fd = os.open("/dev/shm/held", os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(fd, 1 << 20)
memory = mmap.mmap(fd, 1 << 20)
os.close(fd)
memory[:4] = b"held"
print("holds", flush=True)
sys.stdin.read()
assert memory[:4] == b"held" and os.listdir("/dev/shm") == ["held"]
print("held", flush=True)
"""

_STAY = """
import os, sys
print("stays", flush=True)
sys.stdin.readline()
print(os.listdir("/dev/shm"), flush=True)
"""


def _said(process: "subprocess.Popen[str]") -> str:
    """The next line of what a program says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _is_connected(number: str) -> bool:
    """Whether the kernel has a FUSE connection of that number, looked up where root can."""
    return Path("/sys/fs/fuse/connections", number).exists()


def test_a_program_finds_an_anonfs_of_its_own(shm_exec: Factory) -> None:
    before = sorted(os.listdir("/dev/shm"))  # noqa: PTH208
    place = shm_exec(budget="4M", options=["--overcommit"])
    script = (
        'stat -c "%a %F" /dev/shm; echo "$ANONFS_MOUNT"; ls -A /dev/shm; '
        "truncate -s 1T /dev/shm/sparse || exit 1; "
        'echo text > /dev/shm/segment; "$0" -m anonfs stat segment; echo problem >&2; exit 7'
    )
    ran = place.run("sh", "-c", script, *python())
    assert ran.status == 7, ran.output
    lines = ran.output.splitlines()
    assert lines[:3] == ["1777 directory", "/dev/shm", "/dev/shm/segment: shared, 5 B"]
    assert lines[-1] == "problem"
    assert sorted(os.listdir("/dev/shm")) == before, "nobody else sees it"  # noqa: PTH208
    place.wait_until_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_is_the_programs(shm_exec: Factory, number: signal.Signals) -> None:
    place = shm_exec()
    script = 'trap "echo caught; exit 9" TERM; echo runs; while :; do sleep 0.01; done'
    with place.start("sh", "-c", script) as process:
        assert _said(process) == "runs"
        process.send_signal(number)
        if number == signal.SIGTERM:
            assert _said(process) == "caught"
        assert process.wait(_SECONDS) == (9 if number == signal.SIGTERM else -number)
    place.wait_until_gone()


def test_who_holds_a_segment_keeps_it(shm_exec: Factory) -> None:
    """The program ends at once, and its status is there; the daemon waits for the holder."""
    place = shm_exec()
    script = 'exec 3<&0; "$@" <&3 & until [ -e /dev/shm/held ]; do sleep 0.01; done; exit 3'
    with place.start("sh", "-c", script, "sh", *python("-c", _HOLD)) as process:
        assert _said(process) == "holds"
        assert process.wait(_SECONDS) == 3
        assert place.daemons()
        output, _ = process.communicate("", timeout=_SECONDS)
        assert output.strip() == "held"
    place.wait_until_gone()


def test_who_stays_without_a_segment_finds_nothing(shm_exec: Factory) -> None:
    place = shm_exec()
    command = ["sh", "-c", 'exec 3<&0; "$@" <&3 & exit 3', "sh", *python("-c", _STAY)]
    with place.start(*command) as process:
        assert process.wait(_SECONDS) == 3
        assert _said(process) == "stays"
        place.wait_until_gone()
        output, _ = process.communicate("go on\n", timeout=_SECONDS)
        assert output.strip() == "[]", "and not what everybody else has there"


def test_a_killed_daemon_leaves_errors_and_no_mount(shm_exec: Factory) -> None:
    place = shm_exec()
    place.killed = True
    program = (
        "import os, sys; print(os.stat('/dev/shm').st_dev & 0xff, flush=True); sys.stdin.readline()"
        "\ntry: os.listdir('/dev/shm')\nexcept OSError as e: print(e.errno, flush=True)"
    )
    with place.start(*python("-c", program)) as process:
        connection = _said(process)
        assert _is_connected(connection)
        for pid in place.daemons():
            os.kill(pid, signal.SIGKILL)
        place.wait_until_gone()
        output, _ = process.communicate("\n", timeout=_SECONDS)
        assert output.strip() in {"107", "103"}, "ENOTCONN or ECONNABORTED"
        assert process.returncode == 0
    eventually(lambda: not _is_connected(connection), "the mount goes with its namespace")


@pytest.mark.parametrize("milliseconds", [100, 200, 250, 300, 350, 400, 500])
def test_it_may_be_killed_at_any_time(shm_exec: Factory, milliseconds: int) -> None:
    place = shm_exec(budget="4M", swap_size="64M")
    with place.start("sleep", "60") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(milliseconds / 1000)
        process.kill()
    place.wait_until_gone()
    assert not place.swap.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "Missing argument 'PROGRAM"),
        (("--", "/nowhere/program"), 127, "/nowhere/program: No such file or directory"),
        (("--", "no-such-program"), 127, "no-such-program: No such file or directory"),
        (("--", "/etc/passwd"), 126, "/etc/passwd: Permission denied"),
        (("--", "/etc"), 126, "/etc: Permission denied"),
        (("--budget", "lots", "--", "true"), 2, "'lots' is not a size"),
        (("--budget", "1K", "--", "true"), 2, "--budget 1K is too small"),
        (("--swap", "/etc", "--", "true"), 2, "swap file /etc is a directory"),
        (("--bad", "--", "true"), 2, "No such option"),
    ],
)
def test_what_cannot_be_run(
    can_mount: None, arguments: tuple[str, ...], status: int, words: str
) -> None:
    del can_mount
    done = anonfs("shm-exec", *arguments)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("anonfs: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_text_without_an_interpreter(shm_exec: Factory) -> None:
    """That it cannot be run turns out when all is mounted."""
    place = shm_exec()
    text = place.workplace / "text"
    text.write_text("no program\n", "ascii")
    text.chmod(0o755)
    ran = place.run(text)
    assert (ran.status, ran.output) == (126, f"anonfs: {text}: Exec format error\n")


def test_a_user_without_rights(shm_exec: Factory, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    before = python("-m", "tests.support.as_nobody", tmp_path)
    place = shm_exec(before=before)
    script = (
        "echo text > /dev/shm/segment; stat -c '%u %g %a' /dev/shm/segment; "
        "grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status; kill -USR1 $$"
    )
    ran = place.run("sh", "-c", f"umask 077; {script}")
    assert ran.status == -signal.SIGUSR1, ran.output
    lines = ran.output.splitlines()
    assert lines[0] == "65534 65534 600", lines
    assert [line.split()[1] for line in lines[1:]] == ["0" * 16] * 3, "the program gets no right"
