"""Descriptors of processes, as /proc tells of them."""

import errno
import os

import pytest

from anonfs.errors import AnonfsError
from anonfsd._descriptors import descriptor_of


def _refused(pid: int, number: int) -> int | None:
    with pytest.raises(AnonfsError) as refused:
        descriptor_of(pid, number)
    return refused.value.errno


@pytest.mark.parametrize(
    ("flags", "readable"),
    [
        (os.O_RDONLY, True),
        (os.O_RDWR, True),
        (os.O_WRONLY, False),
        (os.O_PATH, False),
        (os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, True),
    ],
)
def test_a_descriptor_of_ours(flags: int, readable: bool) -> None:
    fd = os.open("/dev/null", flags)
    try:
        found, status = descriptor_of(os.getpid(), fd), os.fstat(fd)
    finally:
        os.close(fd)
    assert found.is_readable is readable
    assert found.ino == status.st_ino
    assert found.device == (os.major(status.st_dev), os.minor(status.st_dev))


def test_what_is_none() -> None:
    assert _refused(os.getpid(), 999_999_999) == errno.EBADF
    assert _refused(0, 0) == _refused(1 << 30, 0) == errno.EPERM
    fd = os.memfd_create("nowhere")
    try:
        assert descriptor_of(os.getpid(), fd).device is None
    finally:
        os.close(fd)
