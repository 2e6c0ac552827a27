"""A mount with no segments, which users of all kinds can reach."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anonfs.shm.sysv import Namespace
from anonfs.shm.sysv._attachment import _attached
from tests.posix.children import eventually
from tests.shm.sysv.calls import remove_all
from tests.support.mounts import Mounted


@pytest.fixture(scope="package")
def _sysv_daemon(can_mount: None) -> Iterator[Mounted]:
    del can_mount
    with Mounted(budget="16M") as mounted:
        mounted.workplace.chmod(0o711)
        yield mounted


@pytest.fixture
def mount(_sysv_daemon: Mounted) -> Iterator[Path]:
    """The mount; whatever a test leaves in it is removed, and must go."""
    path = _sysv_daemon.path
    assert list(path.iterdir()) == []
    yield path
    namespace = Namespace(path)
    for attachment in list(_attached.values()):
        attachment.close()
    remove_all(namespace)
    eventually(lambda: list(path.iterdir()) == [], "nothing is left")


@pytest.fixture
def namespace(mount: Path) -> Namespace:
    """The segments of the mount."""
    return Namespace(mount)
