"""A process that swaps out every file of a mount, again and again, named or not.

Files without a name are found where root finds them: among the descriptors and the mappings of
every process, in /proc. ``python -m tests.support.swapper DIR`` runs until it is killed, with
``once`` behind it to the end of one round.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.mounts import Mounted
from tests.support.programs import environment, python, tied_to_us

__all__ = ["swap_out_once", "swapping"]

_SWAPOUT = "user.anonfs.swapout"
_END_SECONDS = 30.0
_ROUND_SECONDS = 120.0


@contextlib.contextmanager
def swapping(mounted: Mounted) -> Iterator[None]:
    """Swap out all that ``mounted`` has, for the time of the block."""
    process = subprocess.Popen(
        tied_to_us(python("-m", "tests.support.swapper", mounted.path)), env=environment()
    )
    try:
        yield
        died = process.poll()
        assert died is None, f"the swapper ended with {died}"
    finally:
        process.kill()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            mounted.abort()
            process.wait(_END_SECONDS)


def swap_out_once(mounted: Mounted) -> None:
    """Swap out all that ``mounted`` has, once."""
    command = python("-m", "tests.support.swapper", mounted.path, "once")
    mounted.run(command, _ROUND_SECONDS).check()


def _held_files(top: str) -> Iterator[str]:
    """Links in /proc that lead to files below ``top``; told by their text, nothing is touched."""
    for process in Path("/proc").iterdir():
        for kind in ("fd", "map_files") if process.name.isdecimal() else ():
            with contextlib.suppress(OSError):
                for link in os.listdir(process / kind):  # noqa: PTH208  a Path for each is slow
                    with contextlib.suppress(OSError):
                        path = f"{process}/{kind}/{link}"
                        if os.readlink(path).startswith(top):  # noqa: PTH115  as above
                            yield path


def _named_files(top: str) -> Iterator[str]:
    """Files below ``top``; no recursion, since a stressor makes directories a thousand deep."""
    directories = [top]
    while directories:
        with contextlib.suppress(OSError), os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                else:
                    yield entry.path


def _swap_all(top: str) -> None:
    """One round; a file may be gone, or be none that has pages."""
    for find in (_held_files, _named_files):
        for path in find(f"{top}/"):
            with contextlib.suppress(OSError):
                os.setxattr(path, _SWAPOUT, b"all")


def _main() -> None:
    top, *once = sys.argv[1:]
    _swap_all(top)
    while not once:
        _swap_all(top)


if __name__ == "__main__":
    _main()
