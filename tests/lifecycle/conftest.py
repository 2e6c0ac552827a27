"""Places for mounts that a test makes and breaks by itself, and two ways to make one."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lifecycle.places import Front, Place, anonfs_mount, anonfsd
from tests.support.mountinfo import mount_at
from tests.support.rescue import bring_down


@pytest.fixture
def place(can_mount: None) -> Iterator[Place]:
    """An empty place; whatever is mounted in it or serves it is gone after the test."""
    del can_mount
    workplace = Path(tempfile.mkdtemp(prefix="anonfs-place-")).resolve()
    workplace.chmod(0o755)
    place = Place(workplace)
    place.point.mkdir()
    try:
        yield place
    finally:
        for pid in place.daemons():
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(pid)
                os.kill(pid, signal.SIGTERM)
                bring_down(str(place.point), pidfd)
                os.close(pidfd)
        for point in (place.point, place.disk):
            while mount_at(point) is not None:
                subprocess.run(["umount", "--lazy", str(point)], check=True)
        shutil.rmtree(workplace)


@pytest.fixture(params=[anonfsd, anonfs_mount], ids=["anonfsd", "anonfs mount"])
def front(request: pytest.FixtureRequest) -> Front:
    """Each of the ways to start a daemon."""
    started: Front = request.param
    return started


@pytest.fixture
def as_root() -> None:
    """Skips where the test is not root."""
    if os.geteuid() != 0:
        pytest.skip("only root can do this")
