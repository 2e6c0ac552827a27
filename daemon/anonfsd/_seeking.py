"""Seeking: LSEEK, with SEEK_DATA or SEEK_HOLE, of files with pages, see `anonfs.mm.seeking`.

So what copies a sparse file reads no more than what is there. Of all other files it is EINVAL, upon
which programs read them from end to end. pyfuse3 would say that there is no such request, and the
kernel would make none any more.
"""

import errno
import os
import struct

from anonfs.errors import AnonfsError
from anonfs.mm import seeking
from anonfs.units import PAGE_SHIFT, pages_for
from anonfsd._answers import Failing, errno_for
from anonfsd._engine_lock import EngineLock
from anonfsd._paging import Paging, Receiver

__all__ = ["Seeking"]

_AT = struct.Struct("=Q")  # fuse_lseek_out: offset


class Seeking:
    """Finds data and holes of files of ``paging``; broken invariants are told to ``failing``."""

    def __init__(self, lock: EngineLock, paging: Paging, failing: Failing) -> None:
        self._lock = lock
        self._paging = paging
        self._failing = failing

    def seek(self, ino: int, offset: int, whence: int, thread: Receiver) -> int:
        """Answer an LSEEK: ENXIO from the end on, and where no more data come."""
        try:
            found = self._find(ino, offset, thread, data=whence == os.SEEK_DATA)
            thread.reply(_AT.pack(found))
        except Exception as error:  # noqa: BLE001  whatever it is, the kernel waits for an answer
            return errno_for(self._failing, "seek", error)
        return 0

    def _find(self, ino: int, offset: int, thread: Receiver, *, data: bool) -> int:
        """Where data, or a hole, begins from byte ``offset`` on."""
        with self._lock:
            if not self._paging.serves(ino):
                raise AnonfsError(errno.EINVAL, "not a file with pages")
            inode, info = self._paging.pages_of(ino)
            size = inode.size
        page, end = offset >> PAGE_SHIFT, pages_for(size)
        search = seeking.find(info, self._paging.loaded, page, end, data=data)
        found = None
        while found is None:
            with self._lock:
                found = next(search)
            if found is None:
                thread.let_lead()
        if offset >= size or (data and found == end):
            raise AnonfsError(errno.ENXIO)
        return min(max(offset, found << PAGE_SHIFT), size)
