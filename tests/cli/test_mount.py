"""mount and umount, with a small program in the daemon's place."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.cli import _fusermount, _mount
from tests.cli.conftest import Ran, Run

PROGRAM = """
import os, sys
fd = int(sys.argv[sys.argv.index("--ready-fd") + 1])
print("in", os.getcwd(), file=sys.stderr)
{body}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of `mount`'s daemon."""
    return tmp_path / "state" / "daemon.log"


@pytest.fixture
def mount(
    run: Run,
    tmp_path: Path,
    log: Path,
    mounted_at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Mounts at ``mnt`` with a program in the daemon's place."""
    mounted_at()
    monkeypatch.setattr(_mount, "default_log", lambda: log)
    monkeypatch.setattr(_mount, "_require_daemon", lambda: None)

    def call(body: str, *options: str) -> Ran:
        command = [sys.executable, "-c", PROGRAM.format(body=body)]
        monkeypatch.setattr(_mount.Plan, "command", lambda _plan: command)
        return run("mount", tmp_path / "mnt", *options)

    return call


def test_a_mount_that_is_ready(mount: Run, tmp_path: Path, log: Path) -> None:
    ran = mount("os.write(fd, b'rea'); os.write(fd, b'dy\\n')")
    assert (ran.status, ran.out, ran.err) == (0, f"mounted at {tmp_path}/mnt\n", "")
    assert log.read_text(encoding="utf-8") == "in /\n"


def test_a_mount_that_is_refused(mount: Run) -> None:
    ran = mount("os.write(fd, b'error: there is no room\\n'); sys.exit(2)")
    assert (ran.status, ran.err) == (2, "anonfs: there is no room\n")


def test_a_daemon_that_falls_over(mount: Run, log: Path) -> None:
    ran = mount("raise SystemExit('no luck')")
    assert (ran.status, ran.err) == (2, f"anonfs: the daemon ended at once, see {log}: no luck\n")


def test_a_daemon_that_says_nothing(mount: Run, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_mount, "READY_TIMEOUT", 0.2)
    ran = mount("import signal; signal.pause()")
    assert (ran.status, ran.err) == (
        2,
        f"anonfs: the daemon did not mount within 0 s, see {log}\n",
    )


def test_the_daemon_gets_absolute_paths() -> None:
    swap = Path("/swap")
    plan = _mount.Plan(Path("/mnt"), "64M", swap, "2G", keep_swap=True, overcommit=True, over=True)
    assert plan.command() == [
        *(sys.executable, "-m", "anonfsd", "/mnt", "--budget", "64M"),
        *("--swap", "/swap", "--swap-size", "2G", "--keep-swap", "--overcommit", "--over"),
    ]


def test_the_daemon_gets_the_limits(
    run: Run, tmp_path: Path, mount: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    del mount  # for what it puts in the daemon's place
    started: list[list[str]] = []
    monkeypatch.setattr(_mount, "start", lambda command, _log: started.append(command))
    options = ["--size", "1G", "--max-segment", "1M", "--max-per-user", "2M"]
    options += ["--max-files-per-user", "7", "--max-locked-per-user", "3M"]
    assert run("mount", tmp_path, *options).status == 0
    assert started[0][-len(options) :] == options


def test_the_foreground_becomes_the_daemon(mount: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def execv(_path: str, command: list[str]) -> None:
        ran.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "execv", execv)
    assert mount("", "--foreground").status == 130
    assert "--ready-fd" not in ran[0]


@pytest.mark.parametrize("option", ["--budget", "--swap-size", "--size", "--max-segment"])
def test_what_is_no_size_is_refused_early(mount: Run, option: str) -> None:
    ran = mount("", option, "lots")
    assert ran.status == 2
    assert "'lots' is not a size" in ran.err


def test_without_its_package_it_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for command in (("mount", "/mnt"), ("doctor",)):
        assert run(*command).err == "anonfs: install the daemon: pip install 'anonfs[daemon]'\n"


@pytest.fixture
def umount(
    run: Run,
    tmp_path: Path,
    mounted_at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Unmounts the only mount with a shell script in the place of fusermount3."""
    mounted_at(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def call(body: str) -> Ran:
        script = programs / "fusermount3"
        script.write_text(f"#!/bin/sh\ntable={tmp_path}/mounts\n{body}\n", encoding="utf-8")
        script.chmod(0o755)
        return run("umount", tmp_path)

    return call


def test_umount(umount: Run) -> None:
    ran = umount(": > $table")
    assert (ran.status, ran.out, ran.err) == (0, "", "")


def test_a_busy_mount_goes_lazily_and_says_so(umount: Run) -> None:
    ran = umount('[ "$2" = -z ] || { echo Device or resource busy >&2; exit 1; }; : > $table')
    assert ran.status == 0
    assert "was in use" in ran.out


def test_what_fusermount_says_is_passed_on(umount: Run) -> None:
    assert umount("echo not yours >&2; exit 1").err == "anonfs: not yours\n"


def test_a_mount_that_stays_is_told(umount: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fusermount, "GONE_TIMEOUT", 0.05)
    ran = umount("exit 0")
    assert ran.status == 2
    assert "is still mounted" in ran.err
