"""mount and umount, with a small program in the daemon's place."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.cli import _fusermount, _mount
from tests.cli.conftest import Run

PROGRAM = """
import os, sys
fd = int(sys.argv[sys.argv.index("--ready-fd") + 1])
print("in", os.getcwd(), file=sys.stderr)
{body}
"""


@pytest.fixture
def daemon(
    tmp_path: Path, mounted_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Puts a program in the daemon's place, and returns its log."""
    mounted_at()
    log = tmp_path / "state" / "daemon.log"
    monkeypatch.setattr(_mount, "default_log", lambda: log)
    monkeypatch.setattr(_mount, "_require_daemon", lambda: None)

    def install(body: str) -> Path:
        command = [sys.executable, "-c", PROGRAM.format(body=body)]
        monkeypatch.setattr(_mount.Plan, "command", lambda _plan: command)
        return log

    return install


def test_a_mount_that_is_ready(run: Run, tmp_path: Path, daemon: Callable[[str], Path]) -> None:
    log = daemon("os.write(fd, b'rea'); os.write(fd, b'dy\\n')")
    ran = run("mount", tmp_path / "mnt")
    assert (ran.status, ran.out, ran.err) == (0, f"mounted at {tmp_path}/mnt\n", "")
    assert log.read_text(encoding="utf-8") == "in /\n"


def test_a_mount_that_is_refused(run: Run, tmp_path: Path, daemon: Callable[[str], Path]) -> None:
    daemon("os.write(fd, b'error: there is no room\\n'); sys.exit(2)")
    ran = run("mount", tmp_path / "mnt")
    assert (ran.status, ran.err) == (2, "anonfs: there is no room\n")


def test_a_daemon_that_falls_over(run: Run, tmp_path: Path, daemon: Callable[[str], Path]) -> None:
    log = daemon("raise SystemExit('no luck')")
    ran = run("mount", tmp_path / "mnt")
    assert (ran.status, ran.err) == (2, f"anonfs: the daemon ended at once, see {log}: no luck\n")


def test_a_daemon_that_says_nothing(
    run: Run,
    tmp_path: Path,
    daemon: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = daemon("import signal; signal.pause()")
    monkeypatch.setattr(_mount, "READY_TIMEOUT", 0.2)
    ran = run("mount", tmp_path / "mnt")
    assert (ran.status, ran.err) == (
        2,
        f"anonfs: the daemon did not mount within 0 s, see {log}\n",
    )


def test_the_daemon_gets_absolute_paths() -> None:
    plan = _mount.Plan(Path("/mnt"), "64M", Path("/swap"), "2G", keep_swap=True)
    assert plan.command() == [
        *(sys.executable, "-m", "anonfsd", "/mnt", "--budget", "64M"),
        *("--swap", "/swap", "--swap-size", "2G", "--keep-swap"),
    ]


def test_the_foreground_becomes_the_daemon(
    run: Run,
    tmp_path: Path,
    daemon: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    daemon("")
    ran: list[list[str]] = []

    def execv(_path: str, command: list[str]) -> None:
        ran.append(command)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "execv", execv)
    assert run("mount", tmp_path / "mnt", "--foreground").status == 130
    assert "--ready-fd" not in ran[0]


@pytest.mark.parametrize("option", ["--budget", "--swap-size"])
@pytest.mark.usefixtures("daemon")
def test_what_is_no_size_is_refused_early(run: Run, tmp_path: Path, option: str) -> None:
    ran = run("mount", tmp_path / "mnt", option, "lots")
    assert ran.status == 2
    assert "'lots' is not a size" in ran.err


def test_without_its_package_it_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for command in (("mount", "/mnt"), ("doctor",)):
        assert run(*command).err == "anonfs: install the daemon: pip install 'anonfs[daemon]'\n"


@pytest.fixture
def fusermount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in the place of fusermount3."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def install(body: str) -> None:
        script = programs / "fusermount3"
        script.write_text(f"#!/bin/sh\ntable={tmp_path}/mounts\n{body}\n", encoding="utf-8")
        script.chmod(0o755)

    return install


def test_umount(
    run: Run,
    tmp_path: Path,
    mounted_at: Callable[..., None],
    fusermount: Callable[[str], None],
) -> None:
    mounted_at(tmp_path)
    fusermount(": > $table")
    ran = run("umount", tmp_path)
    assert (ran.status, ran.out, ran.err) == (0, "", "")


def test_a_busy_mount_goes_lazily_and_says_so(
    run: Run,
    tmp_path: Path,
    mounted_at: Callable[..., None],
    fusermount: Callable[[str], None],
) -> None:
    mounted_at(tmp_path)
    fusermount('[ "$2" = -z ] || { echo Device or resource busy >&2; exit 1; }; : > $table')
    ran = run("umount", tmp_path)
    assert ran.status == 0
    assert "was in use" in ran.out


def test_what_fusermount_says_is_passed_on(
    run: Run,
    tmp_path: Path,
    mounted_at: Callable[..., None],
    fusermount: Callable[[str], None],
) -> None:
    mounted_at(tmp_path)
    fusermount("echo not yours >&2; exit 1")
    assert run("umount", tmp_path).err == "anonfs: not yours\n"


def test_a_mount_that_stays_is_told(
    run: Run,
    tmp_path: Path,
    mounted_at: Callable[..., None],
    fusermount: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mounted_at(tmp_path)
    fusermount("exit 0")
    monkeypatch.setattr(_fusermount, "GONE_TIMEOUT", 0.05)
    ran = run("umount", tmp_path)
    assert ran.status == 2
    assert "is still mounted" in ran.err
