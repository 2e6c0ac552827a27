"""``anonfs ipcrm``: removes System V segments of a mount, as its namesake of util-linux does."""

import errno
import os
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from anonfs.cli._errors import CommandError
from anonfs.shm.sysv import IPC_RMID, Namespace

__all__ = ["ipcrm"]

_WHY = {
    errno.EINVAL: "invalid",
    errno.ENOENT: "invalid",
    errno.EPERM: "permission denied for",
    errno.EACCES: "permission denied for",
}

_Removal = tuple[str, Callable[[], object]]
"""What is to be removed, in words, and how."""

_Ids = Annotated[
    list[str] | None, typer.Option("--shmem-id", "-m", metavar="ID", help="Remove by id.")
]
_Keys = Annotated[
    list[str] | None,
    typer.Option("--shmem-key", "-M", metavar="KEY", help="Remove by key: decimal, 0x or 0."),
]
_All = Annotated[
    str | None, typer.Option("--all", "-a", metavar="shm", help="Remove all that you may.")
]


def ipcrm(ids: _Ids = None, keys: _Keys = None, everything: _All = None) -> None:
    """Remove System V shared memory segments; they go with their last attachment."""
    if everything not in {None, "shm"}:
        raise CommandError(f"--all={everything}: there is nothing but shm")
    if not (ids or keys or everything):
        raise CommandError("give ids, keys, or --all=shm")
    namespace = Namespace()
    removals = [_of_id(namespace, _number(text)) for text in ids or []]
    removals += [_of_key(namespace, _number(text)) for text in keys or []]
    if everything:
        removals += _of_all(namespace)
    complaints = [said for what, remove in removals if (said := _complaint(what, remove))]
    if complaints:
        raise CommandError("; ".join(complaints))


def _of_id(namespace: Namespace, shmid: int) -> _Removal:
    return f"id ({shmid})", partial(namespace.shmctl, shmid, IPC_RMID)


def _of_key(namespace: Namespace, key: int) -> _Removal:
    if not key:
        raise CommandError("illegal key (0x0)")
    return f"key ({key:#x})", partial(namespace.remove_key, key)


def _of_all(namespace: Namespace) -> list[_Removal]:
    """The segments that this user may remove, and what is left of some."""
    mine = [one.ds for one in namespace.segments() if os.geteuid() in {0, one.ds.shm_perm.uid}]
    return [
        _of_id(namespace, ds.shmid) if ds.shmid else _of_key(namespace, ds.shm_perm.key)
        for ds in mine
    ]


def _complaint(what: str, remove: Callable[[], object]) -> str | None:
    try:
        remove()
    except OSError as error:
        if error.errno not in _WHY:
            raise
        return f"{_WHY[error.errno]} {what}"
    return None


def _number(text: str) -> int:
    """As strtoul(3) with base 0."""
    octal = len(text) > 1 and text.isdecimal() and text.startswith("0")
    try:
        return int(text, 8 if octal else 0)
    except ValueError:
        raise CommandError(f"failed to parse argument: {text!r}") from None
