"""The reference beside the mount."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mountinfo import mount_holding


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """An empty directory on tmpfs, open to everybody."""
    if mount_holding("/dev/shm").fstype != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs")
    place = Path(tempfile.mkdtemp(prefix="anonfs-reference-", dir="/dev/shm"))
    place.chmod(0o755)
    yield place
    # A directory that its owner may not read can be left by a test, and keeps all but root out.
    subprocess.run(["chmod", "-R", "u+rwX", place], check=False, timeout=20)
    shutil.rmtree(place)


@pytest.fixture
def as_root() -> None:
    """Skips where the test cannot become another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
