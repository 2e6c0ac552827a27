"""Processes that are killed: what they leave can be seen, and goes if it was to go."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonfs.client import Entry, connect, meminfo
from anonfs.shm import SharedMemory
from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, eventually, hear, say
from tests.support.programs import environment, python, tied_to_us

_SIZE = 4 * PAGE_SIZE

_MINE = ("open", "fcntl.", "os.", "mmap.", "socket.")


def _life(mount: Path) -> None:
    """All that a segment goes through, in this process."""
    segment = SharedMemory("s", True, _SIZE, reap="last-area", mount=mount)
    segment.buf[0] = 1
    segment.resize(2 * _SIZE)
    segment.buf[_SIZE] = 1
    copy = segment.snapshot("copy", reap="last-area")
    copy.buf[1] = 1
    copy.close()
    segment.close()


def _life_until(mount: Path, last: int) -> None:
    """Die before the system call of that number."""
    left = last

    def die(event: str, _: object) -> None:
        nonlocal left
        if event.startswith(_MINE):
            left -= 1
            if left == -1:  # the kill is one, too
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    _life(mount)


def test_killed_before_each_system_call(mount: Path) -> None:
    inodes = meminfo(mount).inodes
    unmapped = 0
    for number in itertools.count():
        with Child(_life_until, mount, number) as child:
            status = child.wait()
        assert status in {0, -signal.SIGKILL}
        for entry in connect(mount).list():
            # What was not mapped yet is as any other.
            with contextlib.suppress(FileNotFoundError):
                unmapped += _is_there(entry)
        eventually(lambda: not list(mount.iterdir()), f"what is left before call {number}")
        if status == 0:
            break
    assert number > 30
    assert unmapped < 20
    eventually(lambda: meminfo(mount).inodes <= inodes, "nothing is left without a name")


def _is_there(entry: Entry) -> int:
    """Have a segment reaped by its last area if it has a size, else take it away; 1 for that."""
    if entry.size:
        with SharedMemory(entry.name) as segment:
            segment.buf[0] = 1  # or it might not be seen that it was mapped
        return 0
    with SharedMemory(entry.name, True, 1, exist_ok=True) as segment:
        segment.unlink()
    return 1


def test_a_segment_outlives_who_made_it(mount: Path) -> None:
    with Child(_make) as child:
        child.said()
        child.kill()
        child.wait()
    with SharedMemory("s") as segment:
        assert (segment.buf[0], segment.reap, list(segment.holders())) == (
            1,
            "never",
            [os.getpid()],
        )
    assert [path.name for path in mount.iterdir()] == ["s"]


def _make() -> None:
    segment = SharedMemory("s", True, _SIZE)
    segment.buf[0] = 1
    say("stored")
    hear()


@contextlib.contextmanager
def _holders(method: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process and the pid of its child."""
    process = subprocess.Popen(
        tied_to_us(python("-m", "tests.shm.holder", method, "s")),
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
        process_group=0,
    )
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("reap", ["never", "last-area"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_holders_are_killed_one_by_one(mount: Path, method: str, reap: str) -> None:
    path = mount / "s"
    with SharedMemory("s", True, _SIZE, reap=reap) as segment, _holders(method) as (parent, child):
        assert segment.holders().keys() == {os.getpid(), parent.pid, child}
        os.kill(child, signal.SIGKILL)
        eventually(lambda: child not in segment.holders(), "the child's areas are gone")
        parent.kill()
        parent.wait()
        assert segment.holders().keys() == {os.getpid()}
        assert bytes(segment.buf[:2]) == b"\1\2"
        assert path.exists()
    if reap == "never":
        with SharedMemory("s") as segment:
            assert bytes(segment.buf[:2]) == b"\1\2"
    else:
        eventually(lambda: not path.exists(), "the segment goes with its last area")
