"""anonfs events: what it prints of a stream that is a plain file."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.events import Lost, VmEvent
from tests.cli.conftest import Run


@pytest.fixture
def point(tmp_path: Path, mounted_at: Callable[..., None]) -> Path:
    made = tmp_path / "mnt"
    (made / ".anonfs").mkdir(parents=True)
    mounted_at(made)
    return made


@pytest.fixture
def file(point: Path) -> Path:
    """A file, and its story after that of a file that had its number before."""
    made = point / "job\n7"
    made.touch()
    ino, now = made.stat().st_ino, time.time()
    area = 0x1000, 0x4000, 8192, 3
    lines: list[VmEvent | Lost] = [
        VmEvent(now - 3, ino, "older", "open", 10, None, *area),
        VmEvent(now - 2, ino, None, "delete"),
        VmEvent(now - 1.5, ino, made.name, "open", 11, None, *area),
        Lost(5),
        VmEvent(now + 1, ino + 1, None, "dup", 13, 12, None, None, 0, 1),
        VmEvent(now + 2, ino, None, "delete"),
    ]
    stream = point / ".anonfs" / "events"
    stream.write_text("".join(f"{line.render()}\n" for line in lines), encoding="ascii")
    return made


def test_all_files(run: Run, file: Path) -> None:
    ran = run("events")
    assert ran.status == 0
    ino = file.stat().st_ino
    titles, *rows = (line.split()[1:] for line in ran.out.splitlines())
    assert titles == ["EVENT", "PID", "PARENT", "ADDRESSES", "FILE", "PAGES", "FILE"]
    assert rows == [
        ["open", "10", "-", "1000-4000", "2-4", "older"],
        ["delete", "-", "-", "-", "-", "older"],
        ["open", "11", "-", "1000-4000", "2-4", "job\\0127"],
        ["events", "were", "lost", "here)"],
        ["dup", "13", "12", "-", "0-0", "inode", str(ino + 1)],
        ["delete", "-", "-", "-", "-", "job\\0127"],
    ]


def test_one_file(run: Run, file: Path) -> None:
    rows = [line.split()[1:3] for line in run("events", file).out.splitlines()[1:]]
    assert rows == [["open", "11"], ["events", "were"], ["delete", "-"]]


def test_as_json(run: Run, file: Path) -> None:
    ran = run("events", file, "--json", "--follow")
    found = [json.loads(line) for line in ran.out.splitlines()]
    assert [line.get("event", line.get("lost")) for line in found] == ["open", 5, "delete"]


def test_where_there_is_no_stream(run: Run, point: Path) -> None:
    ran = run("events")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"anonfs: {point} has no .anonfs/events: mount it anew\n"
    assert run("events", point / "none").status == 2
