"""Runs a program as a user without any right, in a mount namespace where that user may use FUSE.

``python -m tests.support.as_nobody STAGE PROGRAM ARGUMENTS...``, as root. On machines made for root
alone the Python and the source tree lie in a directory that nobody else may search, and the device
is root's. So such directories are covered by others that hold only what is needed, and the device
by one for everybody, made in the empty directory STAGE.
"""

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

from tests.support.programs import ROOT

__all__: list[str] = []

_NOBODY = 65534
_CLONE_NEWNS = 0x20000
_MS_BIND = ctypes.c_ulong(4096)
_FUSE = Path("/dev/fuse")


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if _libc[name](*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _closed(path: Path) -> Path | None:
    """The first directory on the way to ``path`` that others may not search."""
    for above in reversed([path, *path.parents]):
        if not above.stat().st_mode & stat.S_IXOTH:
            return above
    return None


def _open_to_all(paths: list[Path]) -> None:
    held = {path: os.open(path, os.O_PATH) for path in paths if _closed(path)}
    for path, descriptor in held.items():
        closed = _closed(path)
        if closed is not None:
            _mount("-t", "tmpfs", "-o", "mode=755", "none", str(closed))
        path.mkdir(parents=True, exist_ok=True)
        # Not by mount(8), which would look where the descriptor leads: there is the new directory.
        _call("mount", b"/proc/self/fd/%d" % descriptor, os.fsencode(path), None, _MS_BIND, None)


def _open_device(stage: Path) -> None:
    _mount("-t", "tmpfs", "none", str(stage))
    os.mknod(stage / "fuse", stat.S_IFCHR, _FUSE.stat().st_rdev)
    (stage / "fuse").chmod(0o666)
    _mount("--bind", str(stage / "fuse"), str(_FUSE))


def _main() -> None:
    stage, *program = sys.argv[1:]
    _call("unshare", _CLONE_NEWNS)
    _mount("--make-rslave", "/")
    _open_device(Path(stage))
    _open_to_all(sorted({ROOT, Path(sys.prefix), Path(sys.base_prefix)}))
    os.chdir("/")
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    os.execvp(program[0], program)  # noqa: S606  a list, no shell


if __name__ == "__main__":
    _main()
