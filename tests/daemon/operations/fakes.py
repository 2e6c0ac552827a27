"""What stands in the place of the handlers' neighbours."""

import errno
from dataclasses import dataclass, field
from typing import Any

from anonfs.errors import AnonfsError
from anonfs.vfs import Inode


@dataclass
class FakeRings:
    """Counts what it is told."""

    changes: int = 0
    dropped: list[int] = field(default_factory=list)

    def note_open(self, _pid: int) -> None:
        self.changes += 1

    def note_close(self, _opener: int) -> None:
        self.changes += 1

    def note_last_release(self, inode: Inode) -> None:
        self.dropped.append(inode.ino)

    async def look(self) -> None:
        """Nobody maps anything."""

    async def loaded_ptes(self, _inode: Inode) -> int:
        return 0

    async def dirty_bytes(self) -> int:
        return 0


class FakeInspection:
    """Has one attribute."""

    NAME = b"user.anonfs.kind"

    def owns(self, name: bytes) -> bool:
        return name.startswith(b"user.anonfs.")

    def names(self, _inode: Inode) -> list[bytes]:
        return [self.NAME]

    async def get(self, _inode: Inode, name: bytes, uid: int) -> bytes:
        if name != self.NAME:
            raise AnonfsError(errno.ENODATA)
        return b"shared for %d" % uid

    async def set(self, _inode: Inode, _name: bytes, _value: bytes, _caller: object) -> None:
        raise AnonfsError(errno.EPERM)

    async def remove(self, _inode: Inode, _name: bytes, _caller: object) -> None:
        raise AnonfsError(errno.EPERM)


class Broken:
    """Raises ``error`` whatever is asked of it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error
