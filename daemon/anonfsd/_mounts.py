"""Mounting and unmounting through fusermount3, which does for users what root may do itself.

It hands back the /dev/fuse descriptor over a unix socket, as libfuse has it. In a user namespace
it is of no help, and not needed: see `anonfsd._mount_calls`. All of this blocks and must never run
on the event loop of the daemon that serves the mount: unmounting writes dirty pages back, and that
needs answers.
"""

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

from anonfs.client import FS_TYPE, Mount, mount_at
from anonfsd import _mount_calls

__all__ = [
    "MountError",
    "abort",
    "check_mountpoint",
    "mount",
    "others_allowed",
    "unmount",
]

_FUSECTL = Path("/sys/fs/fuse/connections")
_OPTIONS = ("rw", "nosuid", "nodev", "default_permissions", "fsname=anonfs", "subtype=anonfs")
_ANSWER_SECONDS = 5


class MountError(Exception):
    """Why there can be no mount, in one line that says what to do."""


def check_mountpoint(path: Path, *, over: bool = False) -> None:
    """Make sure that ``path`` can be mounted on; what a dead daemon left there is taken away.

    With ``over`` it need not be empty.

    Raises:
        MountError: it cannot.
    """
    if not _mount_calls.allowed() and shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is missing: install the package fuse3")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK, effective_ids=True):
        raise MountError("/dev/fuse is missing or closed to you: run 'modprobe fuse' as root")
    present = mount_at(path)
    if present is not None and present.fs_type == FS_TYPE:
        _replace_stale(path, present)
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist: make the directory first"
        raise MountError(f"{path} {what}")
    try:
        if any(path.iterdir()) and not over:
            raise MountError(
                f"{path} is not empty: mount on an empty directory, or with --over, which hides it"
            )
    except PermissionError:
        raise MountError(f"{path} may not be read by you: mount on a directory of yours") from None
    may_mount = os.geteuid() == 0 or _mount_calls.allowed()
    if not may_mount and not os.access(path, os.W_OK):
        raise MountError(f"{path} may not be written by you: mount on a directory of yours")


def _replace_stale(path: Path, present: Mount) -> None:
    if _answers(path):
        raise MountError(f"{path} is mounted already: use it, or run 'anonfs umount {path}' first")
    abort(present)
    unmount(present, lazy=True)


def _answers(path: Path) -> bool:
    """Whether a living daemon serves ``path``, asked by a process that may be given up."""
    asked = subprocess.Popen(
        ["stat", "--file-system", "--", path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return asked.wait(_ANSWER_SECONDS) == 0
    except subprocess.TimeoutExpired:
        asked.kill()
        return False


def mount(path: Path) -> tuple[Mount, int]:
    """Mount on ``path``; returns the mount and its /dev/fuse descriptor.

    Raises:
        MountError: with what fusermount3 or the kernel said.
    """
    if _mount_calls.allowed():
        try:
            device = _mount_calls.mount(path)
        except OSError as error:
            raise MountError(f"cannot mount on {path}: {error.strerror}") from None
    else:
        device = _ask_fusermount(path)
    mounted = mount_at(path)
    if mounted is None:
        os.close(device)
        raise MountError(f"{path} was unmounted at once")
    return mounted, device


def _ask_fusermount(path: Path) -> int:
    options = [*_OPTIONS, "allow_other"] if others_allowed() else list(_OPTIONS)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = subprocess.run(
            ["fusermount3", "-o", ",".join(options), "--", path],
            env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise MountError(
                f"cannot mount on {path}: {done.stderr.strip() or 'fusermount3 failed'}"
            )
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def others_allowed() -> bool:
    """Whether other users may be let in: root may, others where /etc/fuse.conf says so.

    So may who mounts in a user namespace: the kernel lets in nobody from outside.
    """
    if os.geteuid() == 0 or _mount_calls.allowed():
        return True
    with contextlib.suppress(OSError):
        lines = Path("/etc/fuse.conf").read_text("utf-8").splitlines()
        return "user_allow_other" in [line.strip() for line in lines]
    return False


def unmount(mounted: Mount, *, lazy: bool = False) -> bool:
    """Take a mount away; False if it is in use, which for a ``lazy`` unmount does not matter.

    Nothing is done if it is not there any more: what may be mounted there now is not ours.
    """
    if mount_at(mounted.point) != mounted:
        return True
    if _mount_calls.allowed():
        return _mount_calls.unmount(mounted.point, lazy=lazy)
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(mounted.point)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def abort(present: Mount) -> None:
    """End the connection of a mount: whatever waits for an answer gets an error.

    A daemon's thread that waits for a page which only the daemon can fill is freed by this alone.
    """
    connection = _FUSECTL / str(present.device[1])
    if not connection.exists() and os.geteuid() == 0:
        # Most systems mount it at boot; containers and small ones do not.
        subprocess.run(["mount", "-t", "fusectl", "none", _FUSECTL], check=False)
    with contextlib.suppress(OSError):
        (connection / "abort").write_bytes(b"1")
