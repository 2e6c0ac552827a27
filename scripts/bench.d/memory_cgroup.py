"""A memory cgroup of our own, of whichever version of cgroups has the memory controller.

==============  =======================  ====================
                version 1                version 2
==============  =======================  ====================
limit           memory.limit_in_bytes    memory.max
shared pages    ``shmem`` of memory.stat, in both
processes       cgroup.procs, in both
==============  =======================  ====================

Version 1 lets a cgroup have processes and children; there ours is a child of our own cgroup.
Version 2 does not, so there it stands beside our own or further up, below the nearest that hands
the controller down.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from places import BenchError

__all__ = ["Hierarchy", "MemoryCgroup"]

_EMPTY_SECONDS = 30.0


@dataclass(frozen=True)
class Hierarchy:
    """Where cgroups with a memory controller are made: below ``parent``."""

    version: int
    parent: Path

    @classmethod
    def found(cls, mounts: str, membership: str) -> Self:
        """By the lines of /proc/self/mounts and of /proc/self/cgroup. Raises BenchError: none."""
        for line in mounts.splitlines():
            _, point, kind, options, *_ = line.split()
            if kind == "cgroup" and "memory" in options.split(","):
                return cls(1, _own(Path(point), membership, "memory"))
        for line in mounts.splitlines():
            _, point, kind, *_ = line.split()
            if kind == "cgroup2":
                parent = _handing_down(Path(point), _own(Path(point), membership, ""))
                if parent is not None:
                    return cls(2, parent)
        raise BenchError("this machine lets nobody make a memory cgroup: its controller is missing")


def _own(root: Path, membership: str, controller: str) -> Path:
    """The directory of our own cgroup; the root where it is outside of what we can see."""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = root / path.lstrip("/")
            return own if ".." not in own.parts and own.is_dir() else root
    return root


def _handing_down(root: Path, own: Path) -> Path | None:
    """The nearest cgroup from ours up whose children have a memory controller."""
    for directory in (own, *own.parents):
        control = directory / "cgroup.subtree_control"
        if control.exists() and "memory" in control.read_text("ascii").split():
            return directory
        if directory == root:
            break
    return None


@dataclass(frozen=True)
class MemoryCgroup:
    """A cgroup in ``directory``."""

    version: int
    directory: Path

    @classmethod
    @contextlib.contextmanager
    def made(cls, name: str) -> Iterator[Self]:
        """A new one, until the end of the block. Raises BenchError: it cannot be made."""
        mounts = Path("/proc/self/mounts").read_text("utf-8")
        where = Hierarchy.found(mounts, Path("/proc/self/cgroup").read_text("utf-8"))
        directory = where.parent / name
        try:
            directory.mkdir()
        except OSError as error:
            raise BenchError(f"no memory cgroup {directory}: {error.strerror}") from error
        cgroup = cls(where.version, directory)
        try:
            yield cgroup
        finally:
            cgroup.kill()
            directory.rmdir()

    def limit(self, size: int) -> None:
        """Let it have so many bytes of memory, and of swap as many as there are."""
        name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        (self.directory / name).write_text(str(size), "ascii")

    def add(self, pid: int) -> None:
        """Make a process a member; what it has touched before stays charged to where it was."""
        (self.directory / "cgroup.procs").write_text(str(pid), "ascii")

    def members(self) -> list[int]:
        """The pids of its processes."""
        return [int(pid) for pid in (self.directory / "cgroup.procs").read_text("ascii").split()]

    def shared_bytes(self) -> int:
        """Bytes of shared pages, such as those of a tmpfs, in memory."""
        for line in (self.directory / "memory.stat").read_text("ascii").splitlines():
            name, value = line.split()
            if name == "shmem":
                return int(value)
        return 0

    def kill(self) -> None:
        """Kill all members and wait until they are gone."""
        deadline = time.monotonic() + _EMPTY_SECONDS
        while members := self.members():
            if time.monotonic() > deadline:
                raise BenchError(f"processes {members} do not end")
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
