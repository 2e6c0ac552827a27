"""A mount namespace of this process's own, in which it may mount what nobody else sees.

Root gets one from unshare(2). Anybody else needs a user namespace with it, see user_namespaces(7):
there they have every right until the next exec. Of ids their own alone is mapped, and to itself, so
that the program gets no such right and sees its files as its own.
"""

import ctypes
import os
from pathlib import Path

from anonfs.cli._errors import CommandError

__all__ = ["enter_mount_namespace", "keep_right_to_mount", "mount_empty"]

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 1, 2, 4, 8, 1 << 14, 1 << 19
_CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION = 0x20080522
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def enter_mount_namespace() -> None:
    """Leave the mounts of everybody else; theirs that come later still appear here.

    Raises:
        CommandError: this user may have no namespace, or mount nothing in it.
    """
    try:
        _call("unshare", _CLONE_NEWNS)
    except PermissionError:
        _enter_user_namespace()
    except OSError as error:
        raise CommandError(f"there can be no private mount namespace: {error.strerror}") from None
    _mount(b"/", None, _MS_REC | _MS_SLAVE, None)


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        _call("unshare", _CLONE_NEWUSER | _CLONE_NEWNS)
        _write("uid_map", f"{uid} {uid} 1")
        _write("setgroups", "deny")
        _write("gid_map", f"{gid} {gid} 1")
    except OSError as error:
        raise CommandError(
            "this system lets you have no user namespace, in which you could mount on /dev/shm"
            f" ({error.strerror}): run this as root"
        ) from None


def _write(name: str, text: str) -> None:
    Path("/proc/self", name).write_text(text, "ascii")


def mount_empty(point: Path) -> None:
    """Mount an empty directory on ``point`` that stays empty. Raises CommandError, OSError."""
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount(os.fsencode(point), b"tmpfs", flags, b"size=4k,mode=1777")


def _mount(point: bytes, kind: bytes | None, flags: int, options: bytes | None) -> None:
    try:
        _call("mount", b"none", point, kind, ctypes.c_ulong(flags), options)
    except PermissionError as error:
        raise CommandError(
            "this system lets you mount nothing in a user namespace"
            f" ({error.strerror}): run this as root"
        ) from None
    except FileNotFoundError:
        raise CommandError(f"{os.fsdecode(point)} does not exist: make the directory") from None


def keep_right_to_mount() -> None:
    """Have the programs that this process runs keep CAP_SYS_ADMIN, as an ambient capability.

    For who is root already it changes nothing.
    """
    if os.geteuid() == 0:
        return
    header = _Header(_CAPABILITY_VERSION, 0)
    sets = (_Capabilities * 2)()
    _call("capget", ctypes.byref(header), sets)
    sets[0].inheritable |= 1 << _CAP_SYS_ADMIN
    _call("capset", ctypes.byref(header), sets)
    none = ctypes.c_ulong(0)
    raised = ctypes.c_ulong(_PR_CAP_AMBIENT_RAISE), ctypes.c_ulong(_CAP_SYS_ADMIN)
    _call("prctl", _PR_CAP_AMBIENT, *raised, none, none)


def _call(name: str, *arguments: object) -> None:
    """Call the C library. Raises OSError."""
    if _libc[name](*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
