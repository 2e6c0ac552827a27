"""/dev/shm on anonfs, in each of the ways to have it, answers as a tmpfs does."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.mounts import Mounted
from tests.support.programs import python
from tests.support.shm_exec import ShmExec

_SECONDS = 60.0
_CALLS = python("-m", "tests.real.shm_calls")
_HUGE = ["ENOSPC", "EFBIG", "EFBIG", "ENOSPC", 0]

# In a mount namespace, with an empty tmpfs on /dev/shm, as most machines have it.
_PRIVATE = "mount --make-rslave / && mount -t tmpfs -o mode=1777 none /dev/shm && "


@pytest.fixture(autouse=True)
def _as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become several users")


@pytest.fixture
def reference(mounted: Mounted) -> dict[str, Any]:
    """What came of the calls on a tmpfs."""
    return _without_huge(_run(mounted, f'{_PRIVATE} exec "$@"', *_CALLS))[0]


def _run(mounted: Mounted, script: str, *arguments: object) -> str:
    command = ["unshare", "-m", "sh", "-c", script, "sh", *map(str, arguments)]
    return mounted.run(command, _SECONDS).check()


def _without_huge(output: str) -> tuple[dict[str, Any], list[object]]:
    record: dict[str, Any] = json.loads(output.splitlines()[-1])
    return record, record.pop("_huge")


def test_under_shm_exec(shm_exec: Callable[..., ShmExec], reference: dict[str, Any]) -> None:
    output = shm_exec().run(*_CALLS, seconds=_SECONDS).check()
    assert _without_huge(output) == (reference, _HUGE)


def test_with_a_directory_of_a_mount_bound_there(
    mounted: Mounted, reference: dict[str, Any]
) -> None:
    (mounted.path / "shm").mkdir()
    (mounted.path / "shm").chmod(0o1777)
    script = f'{_PRIVATE} mount --bind {mounted.path}/shm /dev/shm && exec "$@"'
    assert _without_huge(_run(mounted, script, *_CALLS)) == (reference, _HUGE)
    assert list((mounted.path / "shm").iterdir()) == []


def test_with_a_mount_there(
    mounted: Mounted, reference: dict[str, Any], shm_exec: Callable[..., ShmExec]
) -> None:
    """``anonfs mount`` and ``umount``, as an administrator says them."""
    place = shm_exec()  # which sees to it that the daemon ends
    anonfs = " ".join(python("-m", "anonfs"))
    files = f"--swap {place.swap} --log {place.log}"
    script = (
        f"{_PRIVATE} touch /dev/shm/older &&"
        f" {anonfs} mount /dev/shm --over --budget 4M --swap-size 64M {files} &&"
        f' {{ "$@"; {anonfs} umount /dev/shm && ls /dev/shm; }}'
    )
    *_, record, below = _run(mounted, script, *_CALLS).splitlines()
    assert _without_huge(record) == (reference, _HUGE)
    assert below == "older"
