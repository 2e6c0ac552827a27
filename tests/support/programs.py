"""Programs that tests start: how, and what the machine must have for them."""

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ROOT", "as_plain_user", "environment", "missing_for_mounts", "python", "tied_to_us"]

ROOT = Path(__file__).resolve().parents[2]
"""The top of the source tree."""


def environment() -> dict[str, str]:
    """This process's environment, with the packages of the source tree importable."""
    paths = [str(ROOT), str(ROOT / "daemon"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def python(*arguments: object) -> list[str]:
    """The command line that runs this Python with ``arguments``."""
    return [sys.executable, *map(str, arguments)]


def tied_to_us(command: Sequence[str], signal: str = "KILL") -> list[str]:
    """``command``, to get ``signal`` when the process that starts it ends."""
    if shutil.which("setpriv") is None:
        return list(command)
    return ["setpriv", "--pdeathsig", signal, "--", *command]


def as_plain_user(uid: int, command: Sequence[str]) -> list[str]:
    """``command`` as a user who is not root, but finds a Python wherever it is.

    Where /dev/fuse is for root alone the user can mount all the same, though not by fusermount3.
    """
    capabilities = "+dac_override"
    if not Path("/dev/fuse").stat().st_mode & stat.S_IWOTH:
        capabilities += ",+sys_admin"
    identity = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    given = [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    return ["setpriv", *identity, *given, "--", *command]


def missing_for_mounts() -> str | None:
    """What this machine lacks for a real mount, or None."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no usable /dev/fuse"
    if shutil.which("fusermount3") is None:
        return "no fusermount3 on PATH"
    if importlib.util.find_spec("pyfuse3") is None:
        return "pyfuse3 is not installed"
    return None
