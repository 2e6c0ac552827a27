"""What anonfs is compared with: a tmpfs, a tmpfs that the kernel swaps, libfuse's passthrough_ll.

`limited_tmpfs` bounds what anonfs's ``--budget`` bounds: the pages. Kernels charge a page to
the cgroup of whoever touches it first, so the workers are let in when they have allocated all they
need, and nothing but pages of the tmpfs and the kernel's tables for them is charged from then on.
The limit is the budget and, on top of it, those tables, which anonfs has for free::

    workers    import numpy, allocate          -> not limited, and never swapped
               join the cgroup, map the file   -> limit = budget + tables for each worker
    tmpfs ──────▶ swap file, made in full on the same disk as anonfs's, before any other swap
"""

import contextlib
import gzip
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anonfs.units import parse_size
from measure import Peer
from memory_cgroup import MemoryCgroup
from places import BenchError, Place, served
from syscalls import mount, swapoff, swapon, unmount

__all__ = ["PASSTHROUGH", "TMPFS", "limited_tmpfs", "need_disk"]

_EXAMPLES = Path("/usr/share/doc/libfuse3-dev/examples")
_MOUNT_SECONDS = 10.0
_MAPPED_BY_PTES = 512  # bytes of mapped memory for each byte of page tables
_INDEXED = 256  # and, generously, of a file for each byte of the page cache's own tree


@contextlib.contextmanager
def _tmpfs(workplace: Path) -> Iterator[Place]:
    """A tmpfs of our own where root runs this, else a directory in /dev/shm."""
    if os.geteuid() == 0:
        with _tmpfs_at(workplace / "tmpfs", "2G") as point:
            yield Place("tmpfs", point)
        return
    point = Path("/dev/shm", workplace.name)  # noqa: S108 - the tmpfs that users have
    point.mkdir(0o700)
    try:
        yield Place("tmpfs", point)
    finally:
        point.rmdir()


@contextlib.contextmanager
def _tmpfs_at(point: Path, size: str) -> Iterator[Path]:
    point.mkdir()
    try:
        mount("tmpfs", "anonfs-bench", str(point), f"size={size},mode=0700")
    except OSError as error:
        point.rmdir()
        raise BenchError(f"cannot mount a tmpfs on {point}: {error.strerror}") from error
    try:
        yield point
    finally:
        unmount(str(point))
        point.rmdir()


TMPFS = Peer("tmpfs", _tmpfs)


@dataclass(frozen=True, kw_only=True)
class _LimitedPlace(Place):
    """A directory on a tmpfs whose pages the cgroup limits."""

    cgroup: MemoryCgroup
    budget: int

    def memory(self, fd: int) -> int:  # noqa: ARG002 - the cgroup has no other file
        """Bytes of pages in memory, as the cgroup counts them: its swap cache is among them."""
        return self.cgroup.shared_bytes()

    def admit(self, pid: int, size: int) -> None:
        """Let a process in: what it touches from now on is limited."""
        self.cgroup.add(pid)
        tables = len(self.cgroup.members()) * size // _MAPPED_BY_PTES + size // _INDEXED
        self.cgroup.limit(self.budget + tables)


def limited_tmpfs(budget: str, swap_size: str) -> Peer:
    """A tmpfs that holds ``budget`` in memory and the rest in a swap file of that size."""

    @contextlib.contextmanager
    def opened(workplace: Path) -> Iterator[Place]:
        if os.geteuid() != 0:
            raise BenchError("a swap file and a memory cgroup take root: run this group as root")
        need_disk(workplace)
        with (
            MemoryCgroup.made(workplace.name) as cgroup,
            _swap_file(workplace / "kernel-swap", parse_size(swap_size)),
            _tmpfs_at(workplace / "tmpfs", swap_size) as point,
        ):
            try:
                yield _LimitedPlace(
                    "tmpfs with swap", point, cgroup=cgroup, budget=parse_size(budget)
                )
            finally:
                cgroup.kill()

    return Peer("tmpfs with swap", opened)


def need_disk(workplace: Path) -> None:
    """Raise BenchError unless the workplace is on something that can hold a swap file."""
    command = ["stat", "--file-system", "--format", "%T", str(workplace)]
    kind = subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    if kind in {"tmpfs", "ramfs", "overlayfs"}:
        raise BenchError(f"{workplace} is on {kind}: set TMPDIR to a directory on a disk")


@contextlib.contextmanager
def _swap_file(path: Path, size: int) -> Iterator[None]:
    """Swap in a file without holes, in use from here to the end of the block."""
    path.touch(0o600)
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        subprocess.run(["mkswap", str(path)], capture_output=True, check=True)
        swapon(str(path))
        try:
            yield
        finally:
            swapoff(str(path))
    except subprocess.CalledProcessError as error:
        raise BenchError(f"mkswap: {error.stderr.decode().strip()}") from error
    except OSError as error:
        raise BenchError(f"no swap in {path}: {error.strerror}") from error
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _passthrough(workplace: Path) -> Iterator[Place]:
    """The example of libfuse on a tmpfs, as libfuse would have it run, but that it may cache."""
    program = _built(workplace / "passthrough_ll")
    with _tmpfs(workplace) as lower:
        point = workplace / "passthrough"
        options = f"source={lower.directory},cache=always"
        with served(point, [str(program), "-f", "-o", options, str(point)]) as process:
            deadline = time.monotonic() + _MOUNT_SECONDS
            while not point.is_mount():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError("passthrough_ll does not mount")
                time.sleep(0.01)
            yield Place("passthrough_ll", point, process.pid)


def _built(program: Path) -> Path:
    """The example, compiled from the source that Debian packs with libfuse3-dev."""
    plain, source = _EXAMPLES / "passthrough_ll.c", program.with_suffix(".c")
    packed = plain.with_suffix(".c.gz")
    if not plain.exists() and not packed.exists():
        raise BenchError(
            f"no passthrough_ll.c in {_EXAMPLES}: is libfuse3-dev there, with its doc?"
        )
    text = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    source.write_bytes(text)
    flags = ["pkg-config", "--cflags", "--libs", "fuse3"]
    found = subprocess.run(flags, capture_output=True, check=True, text=True).stdout.split()
    command = ["cc", "-O2", f"-I{_EXAMPLES}", str(source), "-o", str(program), *found]
    built = subprocess.run(command, capture_output=True, check=False, text=True)
    if built.returncode != 0:
        raise BenchError(f"passthrough_ll.c: {built.stderr.strip().splitlines()[-1]}")
    return program


PASSTHROUGH = Peer("passthrough_ll", _passthrough)
