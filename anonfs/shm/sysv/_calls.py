"""The four calls, on the mount that `anonfs.client.connect` finds, as C has them."""

import os
from typing import Literal, overload

from anonfs.client import MOUNT_VARIABLE
from anonfs.shm.sysv._attachment import Attached
from anonfs.shm.sysv._namespace import Namespace
from anonfs.shm.sysv._structures import ShmidDs, ShmInfo, Shminfo

__all__ = ["shmat", "shmctl", "shmdt", "shmget"]

_found: dict[str | None, Namespace] = {}


def _namespace() -> Namespace:
    """The one that is meant, found once for as long as it is mounted."""
    named = os.environ.get(MOUNT_VARIABLE)
    namespace = _found.get(named)
    if namespace is None or not namespace.alive:
        namespace = _found[named] = Namespace()
    return namespace


def shmget(key: int, size: int, shmflg: int = 0) -> int:
    """See `Namespace.shmget`."""
    return _namespace().shmget(key, size, shmflg)


def shmat(shmid: int, shmaddr: int | None = None, shmflg: int = 0) -> Attached:
    """See `Namespace.shmat`."""
    return _namespace().shmat(shmid, shmaddr, shmflg)


def shmdt(attachment: Attached | int) -> None:
    """See `Namespace.shmdt`."""
    Namespace.shmdt(attachment)


@overload
def shmctl(shmid: int, cmd: Literal[2, 13], buf: None = None) -> ShmidDs: ...
@overload
def shmctl(shmid: int, cmd: Literal[3], buf: None = None) -> Shminfo: ...
@overload
def shmctl(shmid: int, cmd: Literal[14], buf: None = None) -> ShmInfo: ...
@overload
def shmctl(
    shmid: int, cmd: int, buf: ShmidDs | None = None
) -> ShmidDs | Shminfo | ShmInfo | None: ...
def shmctl(shmid: int, cmd: int, buf: ShmidDs | None = None) -> ShmidDs | Shminfo | ShmInfo | None:
    """See `Namespace.shmctl`."""
    return _namespace().shmctl(shmid, cmd, buf)
