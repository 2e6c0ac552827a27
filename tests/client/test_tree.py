"""meminfo and swaps of a directory that passes for a mount, and lists too long for an attribute."""

import os
from pathlib import Path

import pytest

from anonfs.client import NoMountError, NotAnonfsError, _tree, connect, inspect, meminfo, swaps
from anonfs.client._mount_table import mounts_of_device
from anonfs.inspection import Area
from anonfs.meminfo import SwapUsage, render_swaps
from tests.cli.test_memory import INFO


def test_meminfo_and_swaps(fake_mount: Path) -> None:
    tree = fake_mount / ".anonfs"
    tree.mkdir()
    (tree / "meminfo").write_text(INFO.render(), encoding="utf-8")
    areas = [SwapUsage(None, "file", 8192, 4096), SwapUsage("/a b", "file", 4096, 0, 4096, 3)]
    (tree / "swaps").write_text("\n".join(render_swaps(areas)), encoding="utf-8")
    (fake_mount / "d").mkdir()
    for place in (fake_mount, fake_mount / "d", None):
        assert meminfo(place) == connect(place).meminfo() == INFO
        assert swaps(place) == areas


def test_a_daemon_that_does_not_tell(fake_mount: Path) -> None:
    with pytest.raises(NotAnonfsError, match=r"has no \.anonfs/meminfo"):
        connect(fake_mount).meminfo()


@pytest.mark.usefixtures("mount_table")
def test_no_mount(tmp_path: Path) -> None:
    with pytest.raises(NoMountError):
        meminfo(tmp_path)


@pytest.mark.usefixtures("attributes")
def test_a_list_that_was_cut_is_read_from_the_tree(
    fake_mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fake_mount / "x").write_bytes(b"x")
    number = (fake_mount / "x").stat().st_ino
    monkeypatch.setattr(_tree, "mounts_of_device", lambda _device: [Path("/gone"), fake_mount])
    assert not inspect(fake_mount / "x").areas_complete
    files = fake_mount / ".anonfs" / "inodes" / str(number)
    files.mkdir(parents=True)
    (files / "ring").write_text("7 1000-3000 4096 rw-s\n9 - 0 r--s\n", encoding="ascii")
    seen = inspect(fake_mount / "x")
    assert seen.areas_complete
    assert seen.areas == [Area(7, 0x1000, 0x3000, 4096, "rw-s"), Area(9, None, None, 0, "r--s")]
    with (fake_mount / "x").open("rb") as file:
        assert inspect(file) == seen


def test_the_mounts_of_a_device(fake_mount: Path) -> None:
    assert mounts_of_device(os.makedev(0, 1)) == [fake_mount]
    assert mounts_of_device(os.makedev(0, 0)) == [], "another type of file system"
    assert mounts_of_device(os.makedev(7, 7)) == []
