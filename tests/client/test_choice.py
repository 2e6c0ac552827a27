"""Which mount is meant, from a made-up mount table."""

import errno
import os
from pathlib import Path

import pytest

from anonfs.client import DaemonGoneError, NoMountError, connect, default_mountpoint, find_mount
from tests.client.conftest import Table


@pytest.fixture
def two(tmp_path: Path, mount_table: Table) -> tuple[Path, Path]:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    mount_table((first, "fuse.anonfs"), (second, "fuse.anonfs"))
    return first, second


def test_the_only_mount_is_found(fake_mount: Path) -> None:
    assert find_mount() == fake_mount


def test_the_argument_comes_first(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANONFS_MOUNT", str(two[0]))
    assert find_mount(str(two[1])) == two[1]


def test_then_the_variable(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANONFS_MOUNT", str(two[1]))
    assert find_mount() == two[1]


def test_then_the_default(tmp_path: Path, fake_mount: Path, mount_table: Table) -> None:
    default = tmp_path / "default"
    default.mkdir()
    mount_table((fake_mount, "fuse.anonfs"), (default, "fuse.anonfs"))
    assert find_mount() == default


def test_a_directory_inside_will_do(fake_mount: Path) -> None:
    (fake_mount / "jobs").mkdir()
    assert find_mount(fake_mount / "jobs") == fake_mount / "jobs"


@pytest.mark.usefixtures("two")
def test_several_are_named() -> None:
    with pytest.raises(NoMountError, match=r"one, .*two") as caught:
        find_mount()
    assert caught.value.errno == errno.ENODEV


@pytest.mark.usefixtures("mount_table")
def test_none_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NoMountError, match=f"run anonfs mount {tmp_path}/default"):
        connect()


@pytest.mark.usefixtures("mount_table")
def test_an_ordinary_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoMountError, match="is not in an anonfs mount"):
        connect(tmp_path)


@pytest.mark.usefixtures("mount_table")
def test_a_wrong_variable_is_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANONFS_MOUNT", str(tmp_path))
    with pytest.raises(NoMountError, match="ANONFS_MOUNT: "):
        connect()


def test_another_file_system_on_top_hides_it(
    tmp_path: Path, fake_mount: Path, mount_table: Table
) -> None:
    mount_table((fake_mount, "fuse.anonfs"), (fake_mount, "tmpfs"))
    with pytest.raises(NoMountError):
        find_mount(fake_mount)
    mount_table((tmp_path, "fuse.anonfs"), (fake_mount, "tmpfs"))
    with pytest.raises(NoMountError):
        find_mount(fake_mount)


def test_octal_escapes_are_paths(tmp_path: Path, mount_table: Table) -> None:
    point = tmp_path / "my\\ mount\tü"
    point.mkdir()
    escaped = f"{tmp_path}/my\\134\\040mount\\011ü"
    mount_table((escaped, "fuse.anonfs"))
    assert find_mount() == point


def test_a_dead_daemon_is_told(fake_mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(_path: object) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(DaemonGoneError) as caught:
        connect(fake_mount)
    assert caught.value.errno == errno.ENOTCONN
    line = f"the daemon of {fake_mount} is gone: run anonfs mount {fake_mount}"
    assert caught.value.strerror == line


def test_the_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_mountpoint() == Path("/run/anonfs")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_mountpoint() == Path("/run/user/1000/anonfs")
