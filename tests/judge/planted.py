"""Daemons with one fault each, to show that the judge finds what it is for.

``python -m tests.judge.planted FAULT DIR ...`` is ``python -m anonfsd DIR ...`` with a fault. Each
is one that a page cache hides: the kernel goes on showing what the daemon has lost, until the
page is evicted.
"""

import functools
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from anonfs import vfs
from anonfs.mm import (
    AnonInodeInfo,
    Memory,
    PageCut,
    PageState,
    SwapRead,
    _reclaim,
    _swap_in,
    cutting,
)
from anonfs.mm._entry import Entries, on_swap, states
from anonfs.mm._frames import FrameArena
from anonfs.mm._reading import Reading
from anonfs.swap import SwapArea
from anonfs.units import PAGE_SIZE, pages_for
from anonfs.vfs import FileSystem, Inode
from anonfsd import _connection, _operations
from anonfsd.__main__ import main as serve
from tests.judge.faults import DELAYS, FAULTS, RACES

__all__ = ["main"]

_DELAYS = (0, 0, 0.001, 0.005, 0.02)


def _keep_tail_at_truncate() -> None:
    """The last page keeps the bytes that a shrink cut off; a later growth shows them."""

    def truncate(
        memory: Memory, info: AnonInodeInfo, size: int, _cut: PageCut | None = None
    ) -> None:
        memory.freeing.clear(info, pages_for(size))

    _patch(PageCut, "run", lambda _: None)
    _patch(cutting, "truncate", truncate)


def _leave_fresh_frame_dirty() -> None:
    """A write of a part of a page leaves the rest of its new frame as the last owner left it."""
    _patch(Memory, "_keep_around", lambda *_: None)


def _read_holes_from_arena() -> None:
    """A page that was never written reads as some other page's frame."""
    begin = Reading.begin

    def read(self: Reading, info: AnonInodeInfo, offset: int, size: int) -> memoryview | SwapRead:
        first, frames = offset // PAGE_SIZE, self._memory.frames
        hole = not info.entries(first, pages_for(offset + size) - first).any()
        if hole and size <= frames.count * PAGE_SIZE:
            return frames.view[PAGE_SIZE : PAGE_SIZE + size]
        return begin(self, info, offset, size)

    _patch(Reading, "begin", read)


def _ignore_o_trunc() -> None:
    """A file that is opened with O_TRUNC keeps its pages.

    That is what becomes of a daemon that lets the kernel put O_TRUNC into the flags of the open,
    as it does where nobody says otherwise, and overlooks it there.
    """
    _patch(_connection, "_UNWANTED", _connection._AUTO_INVAL_DATA)


def _drop_data_at_unlink() -> None:
    """The pages of a file go with its name, though it is held open."""
    unlink = FileSystem.unlink

    def unlinked(self: FileSystem, parent: int, name: bytes) -> None:
        inode = self.lookup(parent, name)
        unlink(self, parent, name)
        _lose_pages(self, inode)

    _patch(FileSystem, "unlink", unlinked)


def _drop_data_at_rename_over() -> None:
    """The pages of a file go when another takes its name, though it is held open."""
    rename = vfs.rename

    def renamed(
        fs: FileSystem, parent: int, name: bytes, new_parent: int, new_name: bytes, **how: bool
    ) -> None:
        victim = fs.directory(new_parent)[1].find(new_name)
        inode = fs.inodes[victim] if victim is not None else None
        rename(fs, parent, name, new_parent, new_name, **how)
        if inode is not None and inode is not fs.lookup(new_parent, new_name):
            _lose_pages(fs, inode)

    _patch(_operations, "rename", renamed)


def _lose_pages(filesystem: FileSystem, inode: Inode) -> None:
    if inode.nlink == 0 and inode.info is not None:
        filesystem.memory.freeing.clear(inode.info, 0)


def _lose_tail_of_write() -> None:
    """A write that ends within a page loses the last byte of it."""
    write = Memory.write

    def written(self: Memory, info: AnonInodeInfo, offset: int, data: bytes | memoryview) -> None:
        partial = (offset + len(data)) % PAGE_SIZE != 0 and len(data) > 1
        write(self, info, offset, data[:-1] if partial else data)

    _patch(Memory, "write", written)


def _swap_two_slots() -> None:
    """Of the pages that go to swap together, the first two change places."""

    def swapped(slots: Entries, sums: Entries) -> Entries:
        entries = on_swap(slots, sums)  # each with its own checksum: reading finds no fault
        entries[:2] = entries[:2][::-1].copy()
        return entries

    _patch(_reclaim, "on_swap", swapped)


def _lose_rest_of_swapped_page() -> None:
    """A write of a part of a page on swap does not bring the rest of it back."""
    _patch(Memory, "work_to_complete", lambda *_: None)


def _evict_what_was_rewritten() -> None:
    """A page that is written while it goes to swap is written in its old frame, and evicted.

    Without checksums, which find half of it: what a judge is for is the other half.
    """

    def writable(_: Memory, entries: Entries) -> npt.NDArray[np.bool_]:
        in_core: npt.NDArray[np.bool_] = states(entries) == PageState.IN_CORE
        return in_core

    _patch(Memory, "_writable", writable)
    _patch(FrameArena, "run_immutable", lambda *_: False)
    for module in (_reclaim, _swap_in):
        _patch(module, "checksums", lambda _, rows: np.zeros(rows.size, np.int64))
    _delay_swap()


def _delay_swap() -> None:
    """No fault: swap I/O takes its time, so that more happens while it is under way."""
    dice = random.Random(0)
    for name in ("read_into", "write_from"):
        _patch(SwapArea, name, _delayed(getattr(SwapArea, name), dice))


def _delayed(call: Callable[..., Any], dice: random.Random) -> Callable[..., Any]:
    @functools.wraps(call)
    def later(*arguments: Any) -> Any:
        time.sleep(dice.choice(_DELAYS))
        result = call(*arguments)
        time.sleep(dice.choice(_DELAYS))
        return result

    return later


def _patch(owner: object, name: str, replacement: object) -> None:
    """Replace what must be there: a renamed target is a fault that is no longer planted."""
    getattr(owner, name)
    setattr(owner, name, replacement)


_PLANTS = dict(
    zip(
        (*FAULTS, *RACES, *DELAYS),
        (
            _keep_tail_at_truncate,
            _leave_fresh_frame_dirty,
            _read_holes_from_arena,
            _ignore_o_trunc,
            _drop_data_at_unlink,
            _drop_data_at_rename_over,
            _lose_tail_of_write,
            _swap_two_slots,
            _lose_rest_of_swapped_page,
            _evict_what_was_rewritten,
            _delay_swap,
        ),
        strict=True,
    )
)


def main() -> None:
    """Plant the fault that the first argument names, and serve with the others."""
    fault = sys.argv.pop(1)
    _PLANTS[fault]()
    serve()


if __name__ == "__main__":
    main()
