"""Peers that cannot be set up say so in one line, and leave nothing."""

import os
from pathlib import Path

import pytest

from peers import limited_tmpfs
from places import BenchError


def test_swap_takes_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with (
        pytest.raises(BenchError, match="as root"),
        limited_tmpfs("128M", "1G").open(tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_swap_takes_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with (
        pytest.raises(BenchError, match="set TMPDIR"),
        limited_tmpfs("128M", "1G").open(Path("/dev/shm")),
    ):
        pass
