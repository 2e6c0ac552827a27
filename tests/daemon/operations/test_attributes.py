"""SETATTR: sizes, modes and times, possible or not, and who loses which bits."""

import stat

import pytest

from anonfs.units import MAX_FILE_SIZE
from tests.daemon.operations.mount import Mount
from tests.daemon.operations.requests import (
    CTX,
    MOST,
)


@pytest.mark.parametrize(
    ("size", "answer"),
    [
        (-1, "EINVAL"),
        (-MOST, "EINVAL"),
        (MAX_FILE_SIZE + 1, "EFBIG"),
        (MOST - 1, "EFBIG"),
        (MOST, "EFBIG"),
        (1 << 64, "EFBIG"),
        (1 << 200, "EFBIG"),
    ],
)
def test_absurd_sizes(mount: Mount, size: int, answer: str) -> None:
    ino = mount.inos[b"file"]
    assert mount.set_attributes(ino, size=size) == answer
    assert mount.set_attributes(ino, size=size, mode=0o600) == answer
    found = mount.call("getattr", ino, CTX)
    assert (found.st_size, found.st_mode & 0o7777) == (0, 0o644)


def test_sizes_of_what_has_none(mount: Mount) -> None:
    assert mount.set_attributes(mount.inos[b"dir"], size=0) == "EISDIR"
    assert mount.set_attributes(mount.inos[b"link"], size=0) == "EINVAL"
    assert mount.set_attributes(mount.inos[b"fifo"], size=0) == "EINVAL"


def test_a_mode_keeps_its_type(mount: Mount) -> None:
    for name, ino in mount.inos.items():
        kind = stat.S_IFMT(mount.call("getattr", ino, CTX).st_mode)
        changed = mount.set_attributes(ino, mode=0o7777777)
        assert changed.st_mode == kind | 0o7777, name


@pytest.mark.parametrize("time", [1 << 63, (1 << 64) - 1, -(1 << 63) - 1, 1 << 100])
def test_times_that_do_not_fit(mount: Mount, time: int) -> None:
    """They are stored as well as can be, or refused with nothing changed."""
    ino = mount.inos[b"file"]
    answer = mount.set_attributes(ino, mode=0o600, uid=7, atime_ns=5, mtime_ns=time)
    found = mount.call("getattr", ino, CTX)
    changed = found.st_mode & 0o7777, found.st_uid, found.st_atime_ns == 5
    if isinstance(answer, str):
        assert answer != "EIO"
        assert changed == (0o644, 0, False)
    else:
        assert changed == (0o600, 7, True)
