"""A segment: a file that is held by its inode, whatever becomes of its names meanwhile.

What is held is an O_PATH descriptor, and the file is reached through it alone: whoever owns a name
may put something else in its place, a symbolic link to a file of root's for one, between any two
calls. Owner, group and permissions of a segment are those of the file. What a file has no place
for, its creator writes into an attribute, once::

    user.sysv.shm    id=7 key=0x00001234 cuid=1000 cgid=1000 cpid=321 ctime=1700000000

Who may write to the segment may write there, so it is for show: nothing is granted because of it,
and an id or a key in it counts only if that name leads to the same inode. How many are attached,
and who was last, is the daemon's own, see `anonfs.inspection.Attaches`.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from anonfs.client import areas, attaches, lock, page_counts, reap, unlock
from anonfs.inspection import Attaches, Lock, PageCounts

__all__ = ["PERMISSIONS", "Record", "Segment", "permits"]

PERMISSIONS = 0o777
_RECORD = "user.sysv.shm"
_BITS = {"id": 31, "key": 32, "cuid": 32, "cgid": 32, "cpid": 31, "ctime": 40}
_OWNER_RW = stat.S_IRUSR | stat.S_IWUSR


@dataclass(frozen=True, slots=True)
class Record:
    """The attribute that the creator writes; ``key`` as it was asked for, without a sign."""

    shmid: int
    key: int
    cuid: int
    cgid: int
    cpid: int
    ctime: int

    def render(self) -> str:
        """As the module says."""
        return (
            f"id={self.shmid} key={self.key:#010x} cuid={self.cuid} cgid={self.cgid}"
            f" cpid={self.cpid} ctime={self.ctime}"
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """What ``text`` says. Raises ValueError."""
        found = dict(re.findall(r"(\w+)=(\w+)", text))
        numbers = [int(found.get(name, ""), 0) for name in _BITS]
        if any(number >> bits for number, bits in zip(numbers, _BITS.values(), strict=True)):
            raise ValueError(f"{text!r} has a number that is too large")
        return cls(*numbers)


def permits(status: os.stat_result, flags: int) -> bool:
    """Whether this process may what the permission bits of ``flags`` ask for, as in ipcperms().

    It is asked where no open(2) of the kernel's would answer.
    """
    if os.geteuid() == 0:
        return True
    granted = status.st_mode
    if os.geteuid() == status.st_uid:
        granted >>= 6
    elif status.st_gid in {os.getegid(), *os.getgroups()}:
        granted >>= 3
    return not (flags >> 6 | flags >> 3 | flags) & ~granted & 0o7


class Segment:
    """The regular file behind ``descriptor``, an O_PATH descriptor that is closed with this.

    Attributes:
        shmid: its id.
        removed: whether IPC_RMID has been called for it.
    """

    def __init__(self, descriptor: int, shmid: int, *, removed: bool) -> None:
        self._descriptor = descriptor
        self.shmid = shmid
        self.removed = removed
        self.path = f"/proc/self/fd/{descriptor}"
        """Leads to the inode itself, for the calls that take no such descriptor."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def status(self) -> os.stat_result:
        """Owner, mode, size and number of names, as they are now."""
        return os.fstat(self._descriptor)

    def record(self) -> Record | None:
        """What the creator wrote, None if that is not there (yet), or not in order.

        Raises OSError: EACCES, as for all attributes of what may not be read.
        """
        with contextlib.suppress(ValueError):
            text = self._attribute(_RECORD)
            return None if text is None else Record.parse(text)
        return None

    def write_record(self, record: Record) -> None:
        """Raises OSError: EACCES, ENOSPC."""
        os.setxattr(self.path, _RECORD, record.render().encode("ascii"))

    def attaches(self) -> Attaches:
        """Who is and was attached. Raises OSError: EACCES."""
        return attaches(self.path)

    def pages(self) -> PageCounts:
        """Where its pages are. Raises OSError: EACCES."""
        return page_counts(self.path)

    def holders(self) -> list[int]:
        """The processes that are attached. Raises OSError: EACCES."""
        found, _ = areas(self.path)
        return sorted({area.pid for area in found if area.pid is not None})

    @property
    def locked(self) -> bool:
        """Whether it is kept out of swap. Raises OSError: EACCES, ENOMEM."""
        return Lock.parse(self._attribute("user.anonfs.lock") or "").on

    @locked.setter
    def locked(self, on: bool) -> None:
        (lock if on else unlock)(self.path)

    def go_with_last_area(self) -> None:
        """Have the daemon take its names away when nobody is attached any more."""
        reap(self.path, "last-area")

    def set_owner(self, uid: int, gid: int) -> None:
        """Raises OSError: EPERM, it is not for this process to give away."""
        status = self.status()
        if (status.st_uid, status.st_gid) != (uid, gid):
            os.chown(self.path, uid, gid)

    def set_mode(self, mode: int) -> None:
        """Give it the permission bits ``mode``."""
        os.chmod(self.path, mode)  # noqa: PTH101  a path of this kind is no Path

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Let the owner read and write the attributes of what its mode keeps even him from."""
        mode = stat.S_IMODE(self.status().st_mode)
        if os.geteuid() == 0 or mode & _OWNER_RW == _OWNER_RW:
            yield
            return
        self.set_mode(mode | _OWNER_RW)
        try:
            yield
        finally:
            if stat.S_IMODE(self.status().st_mode) == mode | _OWNER_RW:
                self.set_mode(mode)

    def _attribute(self, name: str) -> str | None:
        try:
            return os.getxattr(self.path, name).decode("ascii", "replace")
        except OSError as error:
            if error.errno == errno.ENODATA:
                return None
            raise
