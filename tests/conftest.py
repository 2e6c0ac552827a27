"""Fixtures for every test: real mounts, which clean up after themselves.

Where the machine cannot mount (no /dev/fuse, no fusermount3) the tests that need it skip and say
why; on CI they fail instead, so that nobody mistakes a skipped tier for a passed one.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.mounts import Mounted, bring_down_leftovers
from tests.support.programs import missing_for_mounts
from tests.support.shm_exec import ShmExec

# How long an example takes says more about what else the machine does.
hypothesis.settings.register_profile("anonfs", deadline=None)
hypothesis.settings.load_profile("anonfs")


def skip_or_fail(reason: str) -> None:
    """Skip the test, or fail it on CI."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"{reason}, and CI must not skip", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "can_mount" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mount)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if bring_down_leftovers():
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


@pytest.fixture(scope="session")
def can_mount() -> None:
    """Skips, or fails on CI, where no mount can be made."""
    reason = missing_for_mounts()
    if reason is not None:
        skip_or_fail(reason)


@pytest.fixture(scope="session")
def need_program() -> Callable[[str], str]:
    """Finds a program's path; skips, or fails on CI, without it."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            skip_or_fail(f"no {name} on PATH")
            raise AssertionError
        return path

    return find


@pytest.fixture
def mount_factory(can_mount: None) -> Iterator[Callable[..., Mounted]]:
    """Makes mounts for one test, with the options of `Mounted`."""
    del can_mount
    with contextlib.ExitStack() as mounts:
        yield lambda **options: mounts.enter_context(Mounted(**options))


@pytest.fixture(scope="session")
def can_have_shm(can_mount: None) -> None:
    """Skips, or fails on CI, where a user may have no /dev/shm of their own."""
    del can_mount
    if os.geteuid() != 0:
        with ShmExec() as place:
            ran = place.run("true")
        if ran.status != 0:
            skip_or_fail(ran.output.strip())


@pytest.fixture
def shm_exec(can_have_shm: None) -> Iterator[Callable[..., ShmExec]]:
    """Makes places for programs with a /dev/shm of their own, with the options of `ShmExec`."""
    del can_have_shm
    with contextlib.ExitStack() as places:
        yield lambda **options: places.enter_context(ShmExec(**options))


@pytest.fixture
def mounted(mount_factory: Callable[..., Mounted]) -> Mounted:
    """A fresh mount for one test: 8 MiB in core, 256 MiB of swap."""
    return mount_factory()


@pytest.fixture(scope="session")
def _shared_daemon(can_mount: None) -> Iterator[Mounted]:
    del can_mount
    with Mounted(budget="64M") as mounted:
        yield mounted


@pytest.fixture
def shared_mount(_shared_daemon: Mounted, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh directory in a mount that many cheap tests share."""
    assert _shared_daemon.responds(), "an earlier test broke the shared mount"
    number = request.node.nodeid.rsplit("::", 1)[-1]
    name = "".join(letter if letter.isalnum() else "-" for letter in number)[:60]
    place = _shared_daemon.path / f"{name}-{os.urandom(4).hex()}"
    place.mkdir()
    yield place
    _shared_daemon.run(["rm", "-rf", str(place)], seconds=60)
