"""Waits that must end: a daemon killed in the middle of one, more of them than it has workers, and
a mount that is full.
"""

import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, hear, say
from tests.posix.memory import Mapping
from tests.posix.reference import outcome
from tests.support.mounts import Mounted

_PAGES = 4096
_MANY = 150
"""More than pyfuse3 has workers by default."""

_ROOM = 512 + 512 - 256
"""Pages that a mount of 2 MiB and as much swap has room for."""


def _open(path: Path, pages: int) -> int:
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    os.ftruncate(fd, pages * PAGE_SIZE)
    return fd


def _swap_out_what_is_dirtied(path: Path) -> None:
    fd = _open(path, _PAGES)
    mapping = Mapping(fd, _PAGES * PAGE_SIZE)

    def dirty() -> None:
        count = 0
        while True:
            count += 1
            for page in range(_PAGES):
                mapping.write(page * PAGE_SIZE, b"%08d" % count)

    threading.Thread(target=dirty, daemon=True).start()
    say("runs")
    while True:
        os.setxattr(fd, "user.anonfs.swapout", b"all")
        say("goes on")


def test_a_daemon_killed_during_swap_outs_leaves_nobody_waiting(
    mount_factory: Callable[..., Mounted],
) -> None:
    mounted = mount_factory()
    mounted.expected_status = -signal.SIGKILL
    with Child(_swap_out_what_is_dirtied, mounted.path / "f") as child:
        assert child.said() == "runs"
        for _ in range(3):
            assert child.said() == "goes on"
        mounted.process.kill()
        assert mounted.process.wait(20) == -signal.SIGKILL
        assert child.wait() != 0  # of SIGBUS, or of the call that failed


def test_more_swap_outs_than_workers_all_end(mounted: Mounted) -> None:
    descriptors = [_open(mounted.path / f"f{number}", 4) for number in range(_MANY)]
    for fd in descriptors:
        os.pwrite(fd, b"x" * PAGE_SIZE, 0)
    with ThreadPoolExecutor(_MANY) as pool:
        asked = [pool.submit(os.setxattr, fd, "user.anonfs.swapout", b"all") for fd in descriptors]
        rings = [pool.submit(os.getxattr, fd, "user.anonfs.ring") for fd in descriptors]
        assert [answer.result(timeout=30) for answer in asked] == [None] * _MANY
        assert [answer.result(timeout=30) for answer in rings] == [b""] * _MANY
    for fd in descriptors:
        assert os.pread(fd, 1, 0) == b"x"
        os.close(fd)


def test_what_was_swapped_out_is_on_swap(mount_factory: Callable[..., Mounted]) -> None:
    """Even where reclaim has some of it on its way."""
    path = mount_factory(budget="4M", arguments=()).path / "f"
    for turn in range(150):
        path.write_bytes(b"%08d" % turn * 512 * 1024)
        os.setxattr(path, "user.anonfs.swapout", b"all")
        assert b"in_core=0 on_swap=1024" in os.getxattr(path, "user.anonfs.pages"), turn


def _fill(path: Path, pages: int) -> None:
    mapping = Mapping(_open(path, pages), pages * PAGE_SIZE)
    for page in range(pages):
        mapping.write(page * PAGE_SIZE, b"%08d" % page)
    say("filled")
    while hear() != "end":
        wrong = [p for p in range(pages) if mapping.read(p * PAGE_SIZE, 8) != b"%08d" % p]
        say(len(wrong))


def test_a_swap_out_that_finds_no_room_loses_nothing_however_often_it_is_tried(
    mount_factory: Callable[..., Mounted],
) -> None:
    """All pages have their promise, but not all of them at once in swap."""
    mounted = mount_factory(budget="2M", swap_size="2M", overcommit=True)
    path = mounted.path / "f"
    with Child(_fill, path, _ROOM) as child:
        assert child.said() == "filled"
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                os.setxattr(path, "user.anonfs.swapout", b"all")
            assert caught.value.errno == errno.ENOSPC
            child.tell("check")
            assert child.said() == 0
        assert outcome((mounted.path / "other").write_bytes, b"x") == "ENOSPC"
        child.tell("end")
    os.truncate(path, 0)
    os.setxattr(path, "user.anonfs.swapout", b"all")


def _write_until_refused(fd: int) -> int | None:
    for page in range(4096):
        try:
            os.pwrite(fd, b"%08d" % page * 512, page * PAGE_SIZE)
        except OSError as error:
            return error.errno
    return None


def test_a_full_mount_can_be_cut_and_used_again(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory(budget="2M", swap_size="2M")
    path = mounted.path / "f"
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    assert _write_until_refused(fd) == errno.ENOSPC
    for size in (700 * PAGE_SIZE + 5, 100 * PAGE_SIZE + 5, 7):
        os.ftruncate(fd, size)
    subprocess.run(["sync", "-f", path], check=True, timeout=20)
    assert os.pread(fd, 100, 0) == b"0000000"
    os.pwrite(fd, b"y" * (1 << 20), 0)
    os.close(fd)
