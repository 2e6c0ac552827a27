"""A directory of a mount that is found as the mount, and programs that find it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.mounts import Mounted
from tests.support.programs import python

Run = Callable[..., str]

_SECONDS = 60.0
"""A bound: a program takes some seconds."""


@pytest.fixture
def mount(shared_mount: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where segments are, for this process and its children."""
    monkeypatch.setenv("ANONFS_MOUNT", str(shared_mount))
    return shared_mount


@pytest.fixture
def run(_shared_daemon: Mounted, mount: Path) -> Run:
    """Runs a module as a program, ``before`` which there may be another; its output.

    It finds the mount at ``point``, by default where the test does.
    """

    def run(
        module: str, *arguments: str, before: Sequence[str] = (), point: Path | None = None
    ) -> str:
        command = [*before, *python("-m", module, *arguments)]
        extra = {"ANONFS_MOUNT": str(point or mount)}
        return _shared_daemon.run(command, _SECONDS, extra).check()

    return run
