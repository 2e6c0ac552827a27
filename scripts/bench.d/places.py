"""Where work is done: a directory on one of the file systems that are compared, and our own mount.

All live below one workplace and are gone at the end of a ``with`` block. A killed benchmark cannot
see to that: a daemon then gets SIGTERM from the kernel and unmounts, and scripts/bench, which
outlives it, takes away what is left.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anonfs.client import inspect
from anonfs.units import PAGE_SIZE, pages_for, parse_size
from pagecache import drop, resident_pages
from syscalls import cachestat

__all__ = ["AnonfsPlace", "BenchError", "Place", "anonfs_mount", "served"]

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

        Where no daemon has them, as on tmpfs, the page cache is the file.

        Raises:
            BenchError: the pages did not leave the page cache.
        """
        if not self.daemon:
            return False
        for _ in range(_DROPS):
            drop(fd)
            if not resident_pages(fd, size):
                return True
        raise BenchError(f"{resident_pages(fd, size)} pages do not leave the page cache")

    def memory(self, fd: int) -> int:
        """Bytes of memory that the contents of a file cost now; of any file, but for the cache."""
        return cachestat(fd).cached * PAGE_SIZE

    def metadata_bytes(self) -> int:
        """Bytes of memory that a daemon takes for anything but contents, and its program."""
        return 0

    def admit(self, pid: int, size: int) -> None:
        """Limit the process's use of this place, if it is limited: it will map ``size`` bytes."""

    def cpu_seconds(self) -> float:
        """The CPU time of the daemon's threads; /proc/PID/stat would count in ticks of 10 ms."""
        clock = ctypes.c_int()
        if not self.daemon or _libc.clock_getcpuclockid(self.daemon, ctypes.byref(clock)) != 0:
            return 0.0
        return time.clock_gettime(clock.value)


@dataclass(frozen=True)
class AnonfsPlace(Place):
    """A directory on an anonfs mount; ``budget`` in bytes."""

    budget: int = 0

    def empty_cache(self, fd: int, size: int) -> bool:
        """As for any place, but the pages must stay in core, in the daemon."""
        emptied = super().empty_cache(fd, size)
        if inspect(fd).pages.in_core != pages_for(size):
            raise BenchError("pages are not in core: the budget is too small")
        return emptied

    def memory(self, fd: int) -> int:
        """Bytes of all frames, and of the page cache of the file."""
        return self.frame_bytes() + super().memory(fd)

    def frame_bytes(self) -> int:
        """Bytes of memory that frames take, as the kernel counts them."""
        return 512 * sum(found.st_blocks for name, found in self._memfds() if "frames" in name)

    def metadata_bytes(self) -> int:
        """Bytes of its private memory, and of its memory files but the frames."""
        status = Path(f"/proc/{self.daemon}/status").read_text("ascii")
        private = int(status.partition("RssAnon:")[2].split()[0]) << 10
        # Not by what is mapped of them: the kernel unmaps what it likes of a shared mapping.
        files = sum(found.st_blocks for name, found in self._memfds() if "frames" not in name)
        return private + 512 * files

    def _memfds(self) -> Iterator[tuple[str, os.stat_result]]:
        """The memory files that the daemon has open, each once."""
        seen = set()
        for link in Path(f"/proc/{self.daemon}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                name, found = str(link.readlink()), link.stat()
                if name.startswith("/memfd:anonfs-") and found.st_ino not in seen:
                    seen.add(found.st_ino)
                    yield name, found


@contextlib.contextmanager
def anonfs_mount(
    workplace: Path, budget: str, swap_size: str, *, overcommit: bool = False
) -> Iterator[AnonfsPlace]:
    """A mount below ``workplace`` whose frames the daemon has touched.

    Raises:
        BenchError: the daemon did not come up.
    """
    point = workplace / "anonfs"
    options = ["--budget", budget, "--swap-size", swap_size, "--swap", str(workplace / "swap")]
    options += ["--overcommit"] if overcommit else []
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as answer:
        program = [sys.executable, "-m", "anonfsd", str(point), *options]
        with served(point, [*program, "--ready-fd", str(writer)], [writer]) as process:
            os.close(writer)
            _await_ready(answer, _log(point))
            place = AnonfsPlace("anonfs", point, process.pid, parse_size(budget))
            _await_populated(place)
            yield place


@contextlib.contextmanager
def served(
    point: Path, command: Sequence[str], keep: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A new directory with what serves it, which ends when this process does, or the block."""
    point.mkdir()
    paths = [str(_ROOT), str(_ROOT / "daemon"), os.environ.get("PYTHONPATH", "")]
    with _log(point).open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            pass_fds=keep,
            process_group=0,  # Ctrl-C is for the benchmark, which ends its daemons in order
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        process.kill()
        process.wait()
        unmounted = ["fusermount3", "-u", "-z", "-q", "--", str(point)]
        subprocess.run(unmounted, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        point.rmdir()


def _log(point: Path) -> Path:
    """Where the program that serves a directory writes."""
    return point.with_name(f"{point.name}.log")


def _await_ready(answer: BinaryIO, log: Path) -> None:
    """Wait for the daemon's one line, after which, or by dying, it closes its end."""
    line = answer.read().decode(errors="replace").strip()
    if line != "ready":
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
        raise BenchError(f"no mount: {line or ''.join(last) or 'the daemon ended at once'}")


def _await_populated(place: AnonfsPlace) -> None:
    """Wait until the frames are in memory, for that is a cost of mounting and not of a page."""
    deadline, before = time.monotonic() + _POPULATE_SECONDS, -1
    while time.monotonic() < deadline:
        now = place.frame_bytes()
        if now >= place.budget or 0 < now == before:  # frames need not be all of the budget
            return
        before = now
        time.sleep(0.2)
