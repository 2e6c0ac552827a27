"""stat, ring and pages: what they print of made-up attributes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Run

VALUES = {
    "kind": "shared\n",
    "reap": "never",
    "lock": "off",
    "parent": "none",
    "front": "none",
    "pages": "total=3 none=1 in_core=1 on_swap=1 front=0\n",
    "reserved": "pages=2\n",
    "pagemap": "0-0 in_core\n1-1 on_swap\n2-2 none\n",
    "ring": f"{os.getpid()} 7f0000001000-7f0000003000 4096 rw-s\n999999999 - 0 r--s\n",
    "count": "dentry=4 areas=2 opens=1 links=1 loaded_ptes=7\n",
}


@pytest.fixture
def file(tmp_path: Path, mounted_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    point = tmp_path / "mnt"
    point.mkdir()
    mounted_at(point)
    made = point / "job"
    made.write_bytes(bytes(3 * 4096))
    monkeypatch.setattr(
        os, "getxattr", lambda _file, name: VALUES[name.removeprefix("user.anonfs.")].encode()
    )
    monkeypatch.setenv("COLUMNS", "80")
    return made


def test_stat(run: Run, file: Path) -> None:
    ran = run("stat", file)
    assert ran.status == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert ran.out.splitlines()[0] == f"{file}: shared, 12 KiB"
    assert ["pages", "3", "12", "KiB"] in lines
    assert ["on", "swap", "1", "4", "KiB"] in lines
    assert ["reserved", "2", "8", "KiB"] in lines
    assert ran.out.splitlines()[-1] == "dentry count 4: vm areas 2, opens 1, links 1; loaded PTEs 7"


@pytest.mark.parametrize(
    ("policy", "line"),
    [
        ("last-area", "goes by itself with the last vm area"),
        ("last-attach 7", "goes by itself with the last vm area of process group 7"),
    ],
)
def test_stat_of_a_file_that_goes_by_itself(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, policy: str, line: str
) -> None:
    monkeypatch.setitem(VALUES, "reap", policy)
    assert run("stat", file).out.splitlines()[-1] == line
    assert json.loads(run("stat", file, "--json").out)["reap"] == policy


def test_stat_of_a_locked_file(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUES, "lock", "on")
    assert run("stat", file).out.splitlines()[-1] == "locked in core"
    assert json.loads(run("stat", file, "--json").out)["locked"]


def test_stat_of_a_copy(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUES, "parent", "17")
    assert run("stat", file).out.splitlines()[-1] == "copied from inode 17"
    assert json.loads(run("stat", file, "--json").out)["parent"] == 17


def test_stat_as_json(run: Run, file: Path) -> None:
    assert json.loads(run("stat", file, "--json").out) == {
        "path": str(file),
        "kind": "shared",
        "size": 12288,
        "pages": {"total": 3, "none": 1, "in_core": 1, "on_swap": 1, "front": 0},
        "reserved": {"pages": 2},
        "counts": {"dentry": 4, "areas": 2, "opens": 1, "links": 1, "loaded_ptes": 7},
        "reap": "never",
        "locked": False,
        "parent": None,
        "front": None,
    }


def test_ring(run: Run, file: Path) -> None:
    ran = run("ring", file)
    command = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
    lines = ran.out.splitlines()
    assert lines[0] == f"{file}: vm areas 2, processes 2"
    titles = ["PID", "COMMAND", "ADDRESSES", "SIZE", "FILE", "PAGES", "PERMS", "KNOWN"]
    assert lines[1].split() == titles
    shown = ["7f0000001000-7f0000003000", "8", "KiB", "1-2", "rw-s", "observed"]
    assert lines[2].split()[2:] == shown
    assert command in lines[2]
    assert lines[3].split() == ["999999999", "?", "-", "-", "0-", "r--s", "observed"]


def test_ring_as_json(run: Run, file: Path) -> None:
    shown = json.loads(run("ring", file, "--json").out)
    assert shown["complete"]
    assert shown["areas"][1] == {
        "pid": 999999999,
        "start": None,
        "end": None,
        "offset": 0,
        "perms": "r--s",
        "how": "observed",
        "command": None,
    }


def test_pages(run: Run, file: Path) -> None:
    lines = run("pages", file).out.splitlines()
    assert lines[0] == f"{file}: 3 pages, 12 KiB; a cell is 1 page (4 KiB)"
    assert lines[1] in {"0000 █▒·", "0000 #=."}
    assert "in core 1" in lines[2]
    assert not any("\x1b" in line for line in lines)


def test_pages_as_json(run: Run, file: Path) -> None:
    shown = json.loads(run("pages", file, "--json").out)
    assert shown["runs"][1] == {"first": 1, "last": 1, "state": "on_swap"}


def test_a_name_is_looked_for_in_the_mount(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(run("stat", "job", "--json").out)["path"] == str(file)
    assert run("stat", "nothing").err == "anonfs: nothing: No such file or directory\n"
