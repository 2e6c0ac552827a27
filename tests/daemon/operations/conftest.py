"""A mount for each test, in order after it."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.daemon.operations.mount import Mount


@pytest.fixture
def failing_mount() -> Iterator[Mount]:
    """A mount that may fail; its test checks it."""
    with closing(Mount()) as mount:
        yield mount


@pytest.fixture
def overcommitted_mount() -> Iterator[Mount]:
    """A mount where sizes are free."""
    with closing(Mount(overcommit=True)) as mount:
        yield mount
        mount.check()
        assert mount.failures == 0


@pytest.fixture
def mount(failing_mount: Mount) -> Iterator[Mount]:
    yield failing_mount
    failing_mount.check()
    assert failing_mount.failures == 0
