from pathlib import Path

import pytest

from anonfsd._io_flusher import memory_is_limited

_NO_LIMIT = "9223372036854771712"


def _tree(tmp_path: Path, cgroup: str, limits: dict[str, str]) -> bool:
    """What is said of a process with that /proc/PID/cgroup and files with those limits."""
    (tmp_path / "cgroup").write_text(cgroup)
    for name, limit in limits.items():
        file = tmp_path / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return memory_is_limited(tmp_path, tmp_path / "sys")


@pytest.mark.parametrize(
    ("limits", "limited"),
    [
        ({"memory/a/b/memory.limit_in_bytes": _NO_LIMIT}, False),
        ({"memory/a/b/memory.limit_in_bytes": "4096"}, True),
        ({"memory/a/memory.limit_in_bytes": "4096"}, True),
        ({"memory/c/memory.limit_in_bytes": "4096"}, False),
        ({}, False),
    ],
)
def test_version_1(tmp_path: Path, limits: dict[str, str], limited: bool) -> None:
    assert _tree(tmp_path, "8:pids:/c\n4:memory:/a/b\n0::/\n", limits) is limited


@pytest.mark.parametrize(
    ("limits", "limited"),
    [
        ({"a/b/memory.max": "max", "a/memory.max": "max"}, False),
        ({"a/b/memory.max": "max", "a/memory.max": "4096"}, True),
    ],
)
def test_version_2(tmp_path: Path, limits: dict[str, str], limited: bool) -> None:
    assert _tree(tmp_path, "0::/a/b\n", limits) is limited


def test_no_cgroups(tmp_path: Path) -> None:
    assert not memory_is_limited(tmp_path / "none", tmp_path)
