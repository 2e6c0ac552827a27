"""Attached processes that make processes in every way there is, and many of them.

After each, the ring is what /proc shows, and the stream of events has told each area once.
"""

import contextlib
import ctypes
import os
import select
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from anonfs.client import Client, attach
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import all_areas_in_proc, areas_in_proc, ring_in_order, ring_of
from tests.lifecycle.told import listening
from tests.posix.children import SECONDS, Child, eventually, fork, hear, say
from tests.posix.memory import Mapping, unmap
from tests.support.programs import environment, python, tied_to_us

_PAGES = 16
_STORM = 2000
_BATCH = 400
_CLONE_VM = 0x100
_STACK = 64 << 10
_SECONDS = 20

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon has forks reported"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture
def file(shared_mount: Path) -> Path:
    """An empty file of some pages."""
    path = shared_mount / "f"
    with path.open("wb") as new:
        new.truncate(_PAGES * PAGE_SIZE)
    return path


def _map(file: Path, pages: int = _PAGES) -> tuple[int, Mapping]:
    """Map and attach; the descriptor and the mapping."""
    fd = os.open(file, os.O_RDWR)
    mapping = Mapping(fd, pages * PAGE_SIZE)
    assert attach(fd)
    return fd, mapping


# -- a storm ---------------------------------------------------------------------------------


def test_a_storm_of_forks(file: Path) -> None:
    batches = [_BATCH] * (_STORM // _BATCH)
    command = python("-m", "tests.lifecycle.storm", file, *batches)
    with listening(file) as told, _talking(command) as storm:
        begun = 0
        for batch in batches:
            _await_line(storm, "alive")
            begun += batch
            alive = batch // 2 + 1
            eventually(lambda alive=alive: told.areas == alive, "the others are gone")  # type: ignore[misc]
            ring = ring_in_order(file)
            assert len(ring) == alive
            assert ring == all_areas_in_proc(file)
            counts = told.counts()
            assert (counts["open"], counts["dup"]) == (1, begun)
            _tell(storm)
        eventually(lambda: told.areas == 0, "everybody is gone")
        assert ring_of(file) == []
        assert told.counts() == {"open": 1, "dup": _STORM, "close": _STORM + 1}


@contextlib.contextmanager
def _talking(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A program that ends with the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        tied_to_us(command), stdin=pipe, stdout=pipe, text=True, env=environment()
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _await_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], SECONDS)[0]
    assert process.stdout.readline() == f"{line}\n"


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
