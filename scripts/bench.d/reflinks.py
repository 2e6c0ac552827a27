"""A file system on a loop device whose files can be copied by reference, as ``cp --reflink`` does.

That is XFS, or btrfs, whichever of them this machine can make. FICLONE is what cp calls.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from places import BenchError, Place

__all__ = ["kind", "reflink", "reflink_place"]

_FICLONE = 0x40049409
_MAKERS = {
    "XFS": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q"],
}
_SIZE = 4 << 30


def kind() -> str:
    """Which of them can be made here; empty where none can."""
    if os.geteuid() != 0:
        return ""
    return next((name for name, (program, *_) in _MAKERS.items() if shutil.which(program)), "")


@contextlib.contextmanager
def reflink_place(workplace: Path) -> Iterator[Place]:
    """A directory on one, until the end of the block. Raises BenchError: it cannot be mounted."""
    image, point = workplace / "reflinks.img", workplace / "reflinks"
    point.mkdir()
    try:
        image.touch(0o600)
        os.truncate(image, _SIZE)
        _run(*_MAKERS[kind()], str(image))
        _run("mount", "-o", "loop", str(image), str(point))
        try:
            yield Place(kind(), point)
        finally:
            _run("umount", str(point))
    finally:
        point.rmdir()
        image.unlink(missing_ok=True)


def reflink(source: int, copy: int) -> None:
    """Make the empty file ``copy`` one of ``source``, by reference."""
    fcntl.ioctl(copy, _FICLONE, source)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    if done.returncode:
        raise BenchError(f"{command[0]}: {done.stderr.strip()}")
