"""A directory that the mount table calls an anonfs, with made-up attributes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.client import _choice, _mount_table

Table = Callable[..., None]


@pytest.fixture
def mount_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Writes the mount table, from pairs of a mountpoint as the kernel writes it and a type."""
    table = tmp_path / "mounts"
    monkeypatch.setattr(_mount_table, "MOUNT_INFO", table)
    monkeypatch.setattr(_choice, "default_mountpoint", lambda: tmp_path / "default")
    monkeypatch.delenv("ANONFS_MOUNT", raising=False)

    def write(*mounts: tuple[str | Path, str]) -> None:
        lines = [
            f"{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} dev rw\n"
            for number, (point, kind) in enumerate([("/", "ext4"), *mounts])
        ]
        table.write_text("".join(lines), encoding="utf-8")

    write()
    return write


@pytest.fixture
def fake_mount(tmp_path: Path, mount_table: Table) -> Path:
    """A directory that passes for a mount."""
    point = tmp_path / "mnt"
    point.mkdir()
    mount_table((point, "fuse.anonfs"))
    return point


@pytest.fixture
def attributes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The extended attributes of every file, by name; what is set is kept here as well."""
    values = {
        "user.anonfs.kind": "shared\n",
        "user.anonfs.pages": "total=4 none=1 in_core=2 on_swap=1 front=0\n",
        "user.anonfs.reserved": "pages=4\n",
        "user.anonfs.pagemap": "0-1 in_core\n2-2 on_swap\n3-3 none\n",
        "user.anonfs.ring": "7 1000-3000 4096 rw-s\n8 - 0 r--s\n...\n",
        "user.anonfs.count": "dentry=3 areas=2 opens=0 links=1 loaded_ptes=5\n",
        "user.anonfs.reap": "never\n",
        "user.anonfs.lock": "off\n",
        "user.anonfs.parent": "7\n",
        "user.anonfs.front": "none\n",
    }

    def getxattr(_file: object, name: str) -> bytes:
        return values[name].encode()

    def setxattr(_file: object, name: str, value: bytes) -> None:
        values[name] = value.decode()

    monkeypatch.setattr(os, "getxattr", getxattr)
    monkeypatch.setattr(os, "setxattr", setxattr)
    return values
