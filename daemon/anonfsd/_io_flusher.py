"""The daemon cleans the pages that a short machine waits for, so it must not wait for them itself.

A thread that needs memory while its memory cgroup is full may be made to wait for the write-back of
pages that the group was charged for. If those are of the mount, they wait for the daemon. A process
that says that it is an I/O flusher (prctl(2)) is not made to; that takes CAP_SYS_RESOURCE. Without
it the daemon's group must not be charged for pages of the mount, which is whoever brings them in:
so where the group is limited there is no read-ahead then.
"""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["become_io_flusher", "may_be_io_flusher", "memory_is_limited"]

_PR_SET_IO_FLUSHER, _PR_GET_IO_FLUSHER = 57, 58
_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 62


def become_io_flusher() -> bool:
    """Have this thread, and those that it starts, not wait for write-back; False if it may not."""
    return int(ctypes.CDLL(None).prctl(_PR_SET_IO_FLUSHER, 1, 0, 0, 0)) == 0


def may_be_io_flusher() -> bool:
    """Whether `become_io_flusher` would succeed: to ask takes the same capability."""
    return int(ctypes.CDLL(None).prctl(_PR_GET_IO_FLUSHER, 0, 0, 0, 0)) >= 0


def memory_is_limited(process: Path = Path("/proc/self"), root: Path = _ROOT) -> bool:
    """Whether the memory cgroup of ``process``, or one above it, has a limit now.

    Of either version, below ``root``; where nothing can be read there is none.
    """
    return any(_limit(file) < _UNLIMITED for file in _limit_files(process, root))


def _limit_files(process: Path, root: Path) -> Iterator[Path]:
    with suppress(OSError):
        for line in (process / "cgroup").read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            group = Path(path.lstrip("/"))
            for above in (group, *group.parents):
                yield root / "memory" / above / "memory.limit_in_bytes"
                yield root / above / "memory.max"


def _limit(file: Path) -> int:
    try:
        text = file.read_text("ascii").strip()
    except OSError:
        return _UNLIMITED
    return _UNLIMITED if text == "max" else int(text)
