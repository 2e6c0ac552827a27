"""stat of a mount: what it prints of a made-up meminfo."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.cli._memory import bar
from anonfs.limits import LimitInfo, Limits, Usage
from anonfs.meminfo import Counters, MemInfo, SwapUsage, render_swaps
from tests.cli.conftest import Run

MIB = 1 << 20
INFO = MemInfo(
    budget=64 * MIB,
    frames=32 * MIB,
    frames_used=16 * MIB,
    frames_free=16 * MIB,
    loaded=8 * MIB,
    cost=40 * MIB,
    dirty=MIB,
    swap_total=128 * MIB,
    swap_free=100 * MIB,
    swap_cached=0,
    swap_retired=0,
    promised=24 * MIB,
    promisable=160 * MIB,
    locked=3 * MIB,
    lockable=5 * MIB,
    inodes=5,
    areas=2,
    counters=Counters(swap_in=7),
)
LIMITS = LimitInfo(
    Limits(size=48 * MIB, files_per_user=9), {0: Usage(1, 2), 1000: Usage(512, 3, 256)}
)
SWAPS = [SwapUsage("/swap file", "file", 128 * MIB, 28 * MIB)]


@pytest.fixture
def point(tmp_path: Path, mounted_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    point = tmp_path / "mnt"
    tree = point / ".anonfs"
    tree.mkdir(parents=True)
    mounted_at(point)
    (tree / "meminfo").write_text(f"{INFO.render()}\n", encoding="utf-8")
    (tree / "limits").write_text(f"{LIMITS.render()}\n", encoding="utf-8")
    lines = [f"{line}\n" for line in render_swaps(SWAPS)]
    (tree / "swaps").write_text("".join(lines), encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "80")
    return point


def test_stat_of_a_mount(run: Run, point: Path) -> None:
    ran = run("stat", point)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == f"{point}: budget 64 MiB, cost 40 MiB"
    assert lines[1] in {
        "█" * 16 + "░" * 16 + "▒" * 8 + "·" * 24,
        "################" + ":" * 16 + "=" * 8 + "." * 24,
    }
    words = [line.split() for line in lines]
    assert ["dirty", "1", "MiB"] in words
    assert ["promisable", "160", "MiB"] in words
    assert "inodes 5, vm areas 2" in lines
    assert ["locked", "3", "MiB"] in words
    assert ["size", "48", "MiB"] in words
    assert ["max", "files", "per", "user", "9"] in words
    assert ["uid", "1000", "2", "MiB", "files", "3", "locked", "1", "MiB"] in words
    assert words[-1] == ["swap_in", "7"], "events that have happened"


def test_without_an_argument_it_is_the_mount_that_is_found(
    run: Run, point: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("stat").out == run("stat", point).out
    monkeypatch.chdir(point)
    assert run("stat", ".").out == run("stat", point).out


def test_as_json(run: Run, point: Path) -> None:
    assert json.loads(run("stat", point, "--json").out) == {
        "path": str(point),
        "meminfo": dataclasses.asdict(INFO),
        "swaps": [dataclasses.asdict(area) for area in SWAPS],
        "limits": dataclasses.asdict(LIMITS.limits),
        "users": {str(uid): dataclasses.asdict(used) for uid, used in LIMITS.users.items()},
    }


def test_errors_are_one_line(run: Run, point: Path, mounted_at: Callable[..., None]) -> None:
    (point / ".anonfs" / "meminfo").unlink()
    ran = run("stat", point)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"anonfs: {point} has no .anonfs/meminfo: mount it anew\n"
    mounted_at()
    ran = run("stat")
    assert ran.status == 2
    assert ran.err.startswith("anonfs: no anonfs is mounted")
    assert ran.err.count("\n") == 1


def test_what_is_not_known_is_not_shown(run: Run, point: Path) -> None:
    less = dataclasses.replace(INFO, dirty=None, areas=None, counters=Counters())
    (point / ".anonfs" / "meminfo").write_text(less.render(), encoding="utf-8")
    (point / ".anonfs" / "limits").write_text("", encoding="utf-8")
    out = run("stat", point).out
    assert "dirty" not in out
    assert out.splitlines()[-1] == "inodes 5"


@pytest.mark.parametrize("cost", [0, 1, 40 * MIB, 64 * MIB, 100 * MIB, 1 << 50])
def test_a_bar_is_always_as_long(cost: int) -> None:
    info = dataclasses.replace(INFO, loaded=max(0, cost - INFO.frames), cost=cost)
    assert len(bar(info).plain) == 64
    none = dataclasses.replace(info, frames=0, frames_used=0, loaded=0, cost=0, budget=cost)
    assert set(bar(none).plain) <= {"·"}


def test_a_name_that_is_no_mount_is_a_file(run: Run, point: Path) -> None:
    (point / "d").mkdir()
    ran = run("stat", point / "d")
    assert ran.status == 2
    assert os.fspath(point) in ran.err
