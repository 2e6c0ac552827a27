"""The front store: a file under an inode, which shows where the inode has no page of its own.

The seed's private named mapping. A fault looks for the page in the backing store first, in core and
on swap, and then in the front store, which is only ever read. So a page that was never written
takes neither frame nor slot, whatever the size of the file, and no entry::

    page        0        1        2        3        4        5
    entry     NONE    IN_CORE   NONE    ON_SWAP   NONE     NONE
    front     ├────────────────────────────────────────┤      front_pages: 5
    hidden                                        ├────┤
    reads     front   frame     front   slot     zeros    zeros

``front_end`` is the byte up to which the front shows. A truncation moves it down and nothing moves
it up again, but for a discard of all that was changed: what was cut off is zeros ever after.

A hole that is punched above the front is ``hidden`` until it is written to. It is kept as a range,
which costs nothing by the page. A page of zeros above the front does not become NONE when it leaves
core: it would show the front.

Who reads a page gets what the file has there at that moment. Where the file has become too short,
the rest of its last page is zeros, and a page beyond is EIO, as a mapping of the file has it.
"""

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from anonfs.errors import AnonfsError, require
from anonfs.mm._entry import Entries
from anonfs.units import PAGE_SHIFT, PAGE_SIZE, pages_for

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo

__all__ = ["Front", "FrontIn", "FrontStore"]


class FrontStore(Protocol):
    """A file that is read.

    Those of one ``domain`` may have to wait for each other, and for nobody else.
    """

    domain: int

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Read what the file has from ``offset`` on, as far as ``buffer`` goes; returns how much.

        It may block. Raises OSError.
        """

    def read_at_once(self, buffer: memoryview, offset: int) -> int:
        """As `read_into`, as far as it comes without a wait. Raises OSError."""

    def close(self) -> None:
        """It is not read any more. It must not block."""


class Front:
    """``size`` bytes of ``store``; ``users`` are the inodes over it and the reads under way."""

    __slots__ = ("size", "store", "users")

    def __init__(self, store: FrontStore, size: int) -> None:
        self.store = store
        self.size = size
        self.users = 0

    def get(self) -> None:
        """One more user."""
        self.users += 1

    def put(self) -> None:
        """One user less; the last one closes the store."""
        require(self.users > 0, "a front without users was let go")
        self.users -= 1
        if not self.users:
            self.store.close()


class FrontIn:
    """``pages`` of ``info``, page indexes in ascending order, read from its front."""

    def __init__(self, info: "AnonInodeInfo", pages: Entries) -> None:
        if info.front is None:
            raise TypeError("an inode without a front")
        self._front = info.front
        self._end = info.front_end
        self._pages = pages
        self._front.get()

    def run(self, buffer: npt.NDArray[np.uint8], rows: Entries) -> None:
        """Read each page into the row of ``buffer`` that ``rows`` names. Raises AnonfsError: EIO.

        It may block.
        """
        for page, target in self._runs(buffer, rows):
            offset = page << PAGE_SHIFT
            wanted = min(len(target), self._end - offset)
            got = 0
            while got < wanted and (more := self._read(target[got:wanted], offset + got)):
                got += more
            if pages_for(got) < pages_for(wanted):
                raise AnonfsError(errno.EIO, "the file under an overlay has become too short")
            target[got:] = bytes(len(target) - got)

    def run_at_once(self, buffer: npt.NDArray[np.uint8], rows: Entries) -> bool:
        """As `run`, unless that would have to wait, or fails; returns whether it was done."""
        try:
            for page, target in self._runs(buffer, rows):
                offset = page << PAGE_SHIFT
                wanted = min(len(target), self._end - offset)
                if self._front.store.read_at_once(target[:wanted], offset) < wanted:
                    return False
                if wanted < len(target):
                    target[wanted:] = bytes(len(target) - wanted)
        except OSError:
            return False
        return True

    def _read(self, buffer: memoryview, offset: int) -> int:
        try:
            return self._front.store.read_into(buffer, offset)
        except OSError as error:
            raise AnonfsError(errno.EIO, f"the file under an overlay: {error}") from error

    def _runs(
        self, buffer: npt.NDArray[np.uint8], rows: Entries
    ) -> Iterator[tuple[int, memoryview]]:
        """Neighbouring pages that go to neighbouring rows: the first one, and where they go."""
        if not rows.size:
            return
        whole = buffer.data.cast("B")
        breaks = np.flatnonzero((np.diff(self._pages) != 1) | (np.diff(rows) != 1)) + 1
        for part in np.split(np.arange(rows.size), breaks):
            start = int(rows[part[0]]) << PAGE_SHIFT
            yield int(self._pages[part[0]]), whole[start : start + part.size * PAGE_SIZE]

    def end(self) -> None:
        """Let the front go."""
        self._front.put()
