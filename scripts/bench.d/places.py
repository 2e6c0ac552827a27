"""The two file systems that are compared: an anonfs mount of our own, and a tmpfs.

Both live below one workplace and are gone at the end of a ``with`` block. A killed benchmark cannot
see to that: the daemon then gets SIGTERM from the kernel and unmounts, and scripts/bench, which
outlives it, takes away what is left.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from anonfs.client import inspect
from anonfs.units import pages_for, parse_size
from pagecache import drop, resident_pages

__all__ = ["BenchError", "Place", "anonfs_mount", "tmpfs_peer"]

_ROOT = Path(__file__).resolve().parents[2]
_POPULATE_SECONDS = 60.0
_STOP_SECONDS = 30.0
_DROPS = 5
_libc = ctypes.CDLL(None, use_errno=True)


class BenchError(Exception):
    """Why there can be no measurement, in one line."""


@dataclass(frozen=True)
class Place:
    """A directory on one of the file systems; ``daemon`` is the pid of what serves it, or 0."""

    name: str
    directory: Path
    daemon: int = 0

    @contextlib.contextmanager
    def scratch(self) -> Iterator[int]:
        """The descriptor of a new, empty, nameless file."""
        fd, path = tempfile.mkstemp(dir=self.directory)
        Path(path).unlink()
        try:
            yield fd
        finally:
            os.close(fd)

    def empty_cache(self, fd: int, size: int) -> bool:
        """Have the kernel forget the pages of a file of ``size`` bytes; False where it cannot.

        On tmpfs the page cache is the file. On anonfs the pages stay in core, in the daemon.

        Raises:
            BenchError: the pages did not leave the page cache, or are not in core.
        """
        if not self.daemon:
            return False
        for _ in range(_DROPS):
            drop(fd)
            if not resident_pages(fd, size):
                break
        else:
            raise BenchError(f"{resident_pages(fd, size)} pages do not leave the page cache")
        if inspect(fd).pages.in_core != pages_for(size):
            raise BenchError("pages are not in core: the budget is too small")
        return True

    def cpu_seconds(self) -> float:
        """The CPU time of the daemon's threads; /proc/PID/stat would count in ticks of 10 ms."""
        clock = ctypes.c_int()
        if not self.daemon or _libc.clock_getcpuclockid(self.daemon, ctypes.byref(clock)) != 0:
            return 0.0
        return time.clock_gettime(clock.value)


@contextlib.contextmanager
def anonfs_mount(workplace: Path, budget: str, swap_size: str) -> Iterator[Place]:
    """A mount below ``workplace`` whose frames the daemon has touched.

    Raises:
        BenchError: the daemon did not come up.
    """
    point = workplace / "anonfs"
    point.mkdir()
    options = ["--budget", budget, "--swap-size", swap_size, "--swap", str(workplace / "swap")]
    process = _started([str(point), *options], workplace / "log")
    try:
        _await_populated(process, parse_size(budget))
        yield Place("anonfs", point, process.pid)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        process.kill()
        _run("fusermount3", "-u", "-z", "-q", "--", str(point))
        point.rmdir()


def _started(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A daemon that answers, and ends when this process does. Raises BenchError."""
    reader, writer = os.pipe()
    paths = [str(_ROOT), str(_ROOT / "daemon"), os.environ.get("PYTHONPATH", "")]
    program = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "anonfsd"]
    with os.fdopen(reader, "rb") as answer, log.open("wb") as output:
        try:
            process = subprocess.Popen(
                [*program, *arguments, "--ready-fd", str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
                pass_fds=[writer],
                process_group=0,  # Ctrl-C is for the benchmark, which ends its daemon in order
            )
        finally:
            os.close(writer)
        try:
            _await_ready(answer, log)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return process


def _await_ready(answer: BinaryIO, log: Path) -> None:
    """Wait for the daemon's one line, after which, or by dying, it closes its end."""
    line = answer.read().decode(errors="replace").strip()
    if line != "ready":
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        raise BenchError(f"no mount: {line or ''.join(last) or 'the daemon ended at once'}")


def _await_populated(process: subprocess.Popen[bytes], budget: int) -> None:
    """Wait until the frames are in memory, for that is a cost of mounting and not of a page."""
    daemon = psutil.Process(process.pid)
    deadline = time.monotonic() + _POPULATE_SECONDS
    while daemon.memory_info().shared < budget and time.monotonic() < deadline:
        time.sleep(0.05)


@contextlib.contextmanager
def tmpfs_peer(workplace: Path) -> Iterator[Place]:
    """A tmpfs of our own where root runs this, else a directory in /dev/shm."""
    if os.geteuid() == 0:
        point = workplace / "tmpfs"
        point.mkdir()
        _run("mount", "-t", "tmpfs", "-o", "size=2G,mode=0700", "anonfs-bench", str(point))
    else:
        point = Path("/dev/shm", workplace.name)  # noqa: S108 - the tmpfs that users have
        point.mkdir(0o700)
    try:
        if not point.is_mount() and os.geteuid() == 0:
            raise BenchError(f"cannot mount a tmpfs on {point}")
        yield Place("tmpfs", point)
    finally:
        if point.is_mount():
            _run("umount", "-l", "--", str(point))
        point.rmdir()


def _run(*command: str) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
