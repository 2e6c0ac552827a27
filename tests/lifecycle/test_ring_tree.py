"""``anonfs ring --follow`` beside real processes that come and go."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import IO

from anonfs.client import Client
from anonfs.units import PAGE_SIZE
from tests.posix.children import SECONDS, Child, hear, say

_INTERRUPTED = 130


class Follower:
    """What the command shows, tree by tree."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        self._output: IO[bytes] = process.stdout
        self._text = ""
        self._selector = DefaultSelector()
        self._selector.register(self._output, EVENT_READ)

    def shows(self, *lines: str) -> bool:
        """Wait for a tree with these lines in this order, each in a line of its own."""
        while not self._has(lines):
            assert self._selector.select(SECONDS), f"not shown: {lines}, but {self._text}"
            piece = os.read(self._output.fileno(), 1 << 16)
            assert piece, f"it has ended: {self._text}"
            self._text += piece.decode()
        end = self._text.rfind(lines[-1]) + len(lines[-1])
        self._text = self._text[end:]
        return True

    def _has(self, lines: tuple[str, ...]) -> bool:
        at = 0
        for line in lines:
            at = self._text.find(line, at) + 1
            if not at:
                return False
        return True


@contextmanager
def _following(file: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Follower]]:
    command = [sys.executable, "-m", "anonfs", "ring", str(file), "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process, Follower(process)
        finally:
            process.kill()


def _map_and_fork(mount: Path) -> None:
    with Client(mount).map("f", 4 * PAGE_SIZE):
        say("mapped")
        hear()
        pid = os.fork()
        if pid == 0:
            signal.pause()
        say(pid)
        hear()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        say("killed")
        hear()


def test_processes_come_and_go(shared_mount: Path) -> None:
    with Child(_map_and_fork, shared_mount) as child:
        assert child.said() == "mapped"
        with _following(shared_mount / "f") as (process, follower):
            assert follower.shows("vm areas 1, processes 1", f"└── {child.pid} ", "0-3")
            child.tell()
            grandchild = child.said()
            assert follower.shows("vm areas 2, processes 2", f"    └── {grandchild} ")
            child.tell()
            assert child.said() == "killed"
            assert follower.shows("vm areas 1, processes 1", f"└── {child.pid} ")
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == _INTERRUPTED


def test_it_has_no_json(shared_mount: Path) -> None:
    (shared_mount / "f").touch()
    command = [
        sys.executable,
        "-m",
        "anonfs",
        "ring",
        str(shared_mount / "f"),
        "--follow",
        "--json",
    ]
    ran = subprocess.run(command, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    assert ran.returncode == 2
    assert b"anonfs events --follow --json" in ran.stderr
