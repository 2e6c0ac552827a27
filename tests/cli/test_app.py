"""What becomes of errors: one line, a status, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anonfs import __version__
from anonfs.cli import _app
from anonfs.client import NoMountError
from tests.cli.conftest import Run


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ring"],
        ["stat", "a", "b"],
        ["stat", "--nonsense", "x"],
        ["stat", "/nowhere/x"],
        ["ring", "/proc"],
        ["pages", "/dev/null"],
        ["umount", "/proc"],
    ],
)
def test_a_user_error_is_one_line_and_status_2(run: Run, arguments: list[str]) -> None:
    ran = run(*arguments)
    assert ran.status == 2
    assert not ran.out
    assert ran.err.startswith("anonfs: ")
    assert ran.err.count("\n") == 1


def test_no_command_shows_the_help(run: Run) -> None:
    ran = run()
    assert ran.status == 0
    for command in ("mount", "umount", "stat", "ring", "pages", "doctor"):
        assert command in ran.out


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"anonfs {__version__}\n"


@pytest.mark.parametrize(
    ("error", "status", "err"),
    [
        (KeyboardInterrupt(), 130, ""),
        (NoMountError("there is none"), 2, "anonfs: there is none\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "anonfs: /x: Permission denied\n"),
    ],
)
def test_errors_of_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, err: str
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(_app, "app", fail)
    ran = run("stat", "x")
    assert (ran.status, ran.err) == (status, err)


@pytest.mark.parametrize("module", ["anonfs", "anonfs.cli"])
def test_a_reader_that_goes_away_is_no_news(module: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    root = Path(_app.__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=root,
        check=False,
    )
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, b"")
