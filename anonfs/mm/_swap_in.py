"""Swap-in: pages of one inode read from their slots, and compared with their checksums.

The slots are pinned from begin to end, so what the entries said at begin is what is read. Pages
that cannot be read, or are not what was written, are lost, and whoever asks for them is told EIO;
each is named in the error. Pages that share a request with a lost one are not: the kernel retries
a READ that failed page by page.
"""

import errno
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from anonfs.errors import AnonfsError
from anonfs.mm._entry import Entries, numbers, sums
from anonfs.swap import checksums
from anonfs.units import Ino

if TYPE_CHECKING:
    from anonfs.mm._anon_inode_info import AnonInodeInfo
    from anonfs.mm._memory import Memory

__all__ = ["BadPageError", "SwapIn"]


class BadPageError(AnonfsError):
    """EIO: ``pages`` of inode ``ino`` did not come back from ``slots`` as they were written.

    ``unreadable`` is how many the store failed to read; the others had a wrong checksum. ``what``
    says it all in a line.
    """

    def __init__(self, ino: Ino, pages: list[int], slots: list[int], unreadable: int) -> None:
        self.ino = ino
        self.pages = pages
        self.slots = slots
        self.unreadable = unreadable
        named = ", ".join(f"{page} (slot {slot})" for page, slot in zip(pages, slots, strict=True))
        why = "unreadable" if unreadable == len(pages) else "damaged"
        if 0 < unreadable < len(pages):
            why = "unreadable or damaged"
        self.what = f"inode {ino}: {why} on swap: page {named}"
        super().__init__(errno.EIO, self.what)


class SwapIn:
    """``pages`` of ``info``, page indexes, whose ``entries`` are ON_SWAP."""

    def __init__(
        self, memory: "Memory", info: "AnonInodeInfo", pages: Entries, entries: Entries
    ) -> None:
        self._memory = memory
        self._ino = info.ino
        self._pages = pages
        self._sums = sums(entries)
        self._error: BadPageError | None = None
        self.slots = numbers(entries)
        memory.swap.pin(self.slots)

    def run(self, buffer: npt.NDArray[np.uint8], rows: Entries) -> None:
        """Read each page into the row of ``buffer`` that ``rows`` names. Raises BadPageError."""
        transfer = self._memory.swap.read_into(self.slots, buffer.data.cast("B"), rows)
        damaged = transfer.done.copy()
        damaged[damaged] = checksums(buffer, rows[transfer.done]) != self._sums[transfer.done]
        bad = transfer.failed | damaged
        if bad.any():
            pages, slots = self._pages[bad].tolist(), self.slots[bad].tolist()
            unreadable = int(np.count_nonzero(transfer.failed))
            self._error = BadPageError(self._ino, pages, slots, unreadable)
            raise self._error from transfer.error

    def end(self) -> None:
        """Let the slots go, and count the errors."""
        swap, error = self._memory.swap, self._error
        swap.unpin(self.slots)
        if error is not None:
            swap.read_errors += error.unreadable
            swap.checksum_errors += len(error.pages) - error.unreadable

    def finish(self) -> None:
        """End it, all pages having come in."""
        self.end()
        self._memory.counters.swapped_in += self.slots.size
