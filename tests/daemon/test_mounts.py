import os
import shutil
from pathlib import Path

import pytest

from anonfs.client import Mount
from anonfsd import _mount_calls, _mounts
from anonfsd._mounts import MountError, check_mountpoint, others_allowed, unmount

_STOCK = """\
# The file /etc/fuse.conf allows for the following parameters:
#
# user_allow_other - Using the allow_other mount option works fine as root, in
# order to have it work as user you need user_allow_other in /etc/fuse.conf as
# well.

#user_allow_other

# mount_max = n - this option sets the maximum number of mounts.

#mount_max = 1000
"""


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("user_allow_other\n", True),
        ("mount_max = 5\n  user_allow_other  \n", True),
        (_STOCK.replace("#user_allow_other", "user_allow_other"), True),
        ("", False),
        ("#user_allow_other\n", False),
        ("# user_allow_other\n", False),
        (_STOCK, False),
        ("user_allow_others\n", False),
    ],
)
def test_others_are_let_in_where_the_configuration_says_so(
    text: str, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(_mount_calls, "allowed", lambda: False)
    monkeypatch.setattr(Path, "read_text", lambda _path, *_args: text)
    assert others_allowed() is allowed


def test_others_without_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_path: Path, *_args: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(_mount_calls, "allowed", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not others_allowed()
    monkeypatch.setattr(_mount_calls, "allowed", lambda: True)
    assert others_allowed(), "in a user namespace"
    monkeypatch.setattr(_mount_calls, "allowed", lambda: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert others_allowed()


@pytest.fixture
def equipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has all that a mount needs."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "access", lambda *_, **__: True)
    monkeypatch.setattr(_mount_calls, "allowed", lambda: False)
    monkeypatch.setattr(_mounts, "mount_at", lambda _path: None)


def _refusal(path: Path) -> str:
    with pytest.raises(MountError) as error:
        check_mountpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("equipped")
def test_what_can_be_mounted_on(tmp_path: Path) -> None:
    check_mountpoint(tmp_path)


@pytest.mark.usefixtures("equipped")
def test_what_cannot_be_mounted_on(tmp_path: Path) -> None:
    missing, file = tmp_path / "missing", tmp_path / "file"
    file.touch()
    assert _refusal(missing) == f"{missing} does not exist: make the directory first"
    assert _refusal(file) == f"{file} is not a directory"
    assert _refusal(tmp_path).startswith(f"{tmp_path} is not empty: mount on an empty directory")
    check_mountpoint(tmp_path, over=True)


@pytest.mark.usefixtures("equipped")
def test_a_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, *_, **__: path == "/dev/fuse")
    assert _refusal(tmp_path).startswith(f"{tmp_path} may not be written by you")

    def closed(_path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", closed)
    assert _refusal(tmp_path).startswith(f"{tmp_path} may not be read by you")


@pytest.mark.usefixtures("equipped")
def test_another_file_system_is_mounted_over_where_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = Mount(tmp_path, "tmpfs", (0, 40))
    monkeypatch.setattr(_mounts, "mount_at", lambda _path: present)
    monkeypatch.setattr(_mounts, "unmount", lambda *_: pytest.fail("unmounted"))
    check_mountpoint(tmp_path)
    (tmp_path / "segment").touch()
    assert _refusal(tmp_path).startswith(f"{tmp_path} is not empty: mount on an empty directory")


@pytest.mark.usefixtures("equipped")
@pytest.mark.parametrize("alive", [True, False])
def test_a_mount_is_replaced_only_if_nobody_serves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alive: bool
) -> None:
    present = Mount(tmp_path, "fuse.anonfs", (0, 40))
    done: list[object] = []
    monkeypatch.setattr(_mounts, "mount_at", lambda _path: present)
    monkeypatch.setattr(_mounts, "_answers", lambda _path: alive)
    monkeypatch.setattr(_mounts, "abort", done.append)
    monkeypatch.setattr(_mounts, "unmount", lambda mounted, lazy: done.append((mounted, lazy)))
    if alive:
        assert "is mounted already" in _refusal(tmp_path)
        assert not done
    else:
        check_mountpoint(tmp_path)
        assert done == [present, (present, True)]


def test_what_the_machine_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    monkeypatch.setattr(_mount_calls, "allowed", lambda: False)
    assert _refusal(tmp_path) == "fusermount3 is missing: install the package fuse3"
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert _refusal(tmp_path).startswith("/dev/fuse is missing or closed to you")


def test_what_was_mounted_since_is_not_unmounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Mount(tmp_path, "fuse.anonfs", (0, 40))
    theirs = Mount(tmp_path, "fuse.anonfs", (0, 41))
    monkeypatch.setattr(_mounts, "mount_at", lambda _path: theirs)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("unmounted"))
    assert unmount(ours, lazy=True)
