"""Swap-out on request: pages leave the page tables of all mappers, the page cache, and core.

The order is the seed's: the loaded PTEs are cleared first, for they are what makes a page busy;
then the page is written to swap, once for all that map it.

The request is a SETXATTR, which holds the lock of the inode until it is answered. So nothing here
may wait for a lock that somebody could hold while waiting for that one: no name is looked up.
"""

import errno
import logging

from anonfs.client import Mount
from anonfs.errors import AnonfsError
from anonfs.mm import AnonInodeInfo
from anonfs.units import PAGE_SHIFT, Ino
from anonfs.vfs import Inode
from anonfsd._connection import Connection
from anonfsd._pager import Pager

__all__ = ["SwapOut"]

log = logging.getLogger(__name__)


class SwapOut:
    """Swaps out pages of a mount."""

    def __init__(self, connection: Connection, pager: Pager, mounted: Mount) -> None:
        self._connection = connection
        self._pager = pager
        self._mounted = mounted

    async def __call__(self, inode: Inode, first: int, last: int) -> None:
        """Swap out pages ``first`` to ``last`` of ``inode``.

        Raises:
            OSError: ENOSPC, also when a write of the inode's pages was refused before: the kernel
                takes those for clean, and an invalidation would drop the only copy.
        """
        if inode.info is None:
            return
        _refuse_unwritten(inode)
        await self._write_back(inode.ino, first << PAGE_SHIFT, (last - first + 1) << PAGE_SHIFT)
        await self._invalidate(inode, inode.info, first, last)
        await self._pager.swap_out(inode.info, first, last)

    async def _invalidate(self, inode: Inode, info: AnonInodeInfo, first: int, last: int) -> None:
        """Drop cached pages, never more of them than there is room for if all were dirty."""
        while first <= last:
            _refuse_unwritten(inode)
            room = self._pager.room
            if room == 0 and info.holes(first, last - first + 1):
                raise AnonfsError(errno.ENOSPC, "pages may be dirty, and budget and swap are full")
            count = min(room, last - first + 1) or last - first + 1
            await self._connection.invalidate(inode.ino, first << PAGE_SHIFT, count << PAGE_SHIFT)
            first += count

    async def _write_back(self, ino: Ino, offset: int, length: int) -> None:
        """Have the dirty pages of a range written in large requests, where that can be asked for.

        The invalidation writes back too, a page at a time.
        """
        try:
            await self._connection.write_back(self._mounted, ino, offset, length)
        except OSError as error:
            # Any other error is one of a write: its page would be lost by the invalidation.
            if error.errno not in {errno.EPERM, errno.ESTALE}:
                raise
            log.debug("write-back of inode %d: %s", ino, error)


def _refuse_unwritten(inode: Inode) -> None:
    if inode.unwritten:
        raise AnonfsError(errno.ENOSPC, f"pages of inode {inode.ino} could not be written back")
