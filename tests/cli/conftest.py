"""The command line run in this process, on made-up mounts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from anonfs.cli import main
from anonfs.client import _mount_table


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs ``anonfs`` with some arguments."""

    def call(*arguments: str | Path) -> Ran:
        status = main([str(argument) for argument in arguments])
        return Ran(status, *capfd.readouterr())

    return call


@pytest.fixture
def mounted_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes a mount table with an anonfs at each of some places."""
    table = tmp_path / "mounts"
    monkeypatch.setattr(_mount_table, "MOUNT_INFO", table)
    monkeypatch.delenv("ANONFS_MOUNT", raising=False)

    def write(*points: Path) -> None:
        root = "1 1 8:1 / / rw - ext4 dev rw\n"
        lines = [f"2 1 0:42 / {point} rw - fuse.anonfs anonfs rw\n" for point in points]
        table.write_text("".join([root, *lines]), encoding="utf-8")

    write()
    return write
