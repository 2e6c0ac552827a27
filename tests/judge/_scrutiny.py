"""Eviction and reading back: what brings a fault to light.

Data that a daemon has lost stays readable in the page cache, so what is verified is first
evicted, each time another way.
"""

from collections.abc import Callable

from tests.judge._libc import PAGE
from tests.judge._model import Handle, Inode, Mapping
from tests.judge._stage import Stage

__all__ = ["chase", "evict", "verify", "verify_all"]

_PIECE = 256 * PAGE


def chase(stage: Stage, inode: Inode) -> None:
    """Plan to evict ``inode`` and to read it back."""
    stage.plans.append(lambda: evict(stage, inode))
    stage.plans.append(lambda: verify(stage, inode))


def evict(stage: Stage, inode: Inode) -> bool:
    """Push pages of ``inode`` out; False where nothing holds it that could."""
    ways: list[Callable[[], None]] = []
    handle = stage.dice.one_of(inode.handles)
    name = stage.dice.one_of(inode.names)
    if handle is not None:
        ways += [lambda: _swap_out(stage, handle)] * 3
        ways += [lambda: _drop(stage, handle)] * 2
    if name is not None:
        ways += [lambda: _swap_out_named(stage, inode, name)]
    way = stage.dice.one_of(ways)
    if way is None:
        return False
    way()
    return True


def _some_pages(stage: Stage, inode: Inode) -> str:
    """What to swap out: everything, or a range of pages that exist."""
    pages = -(-inode.size // PAGE)
    if pages == 0 or stage.dice.chance(0.5):
        return "all"
    first = stage.dice.between(0, pages - 1)
    return f"{first}-{stage.dice.between(first, pages - 1)}"


def _check_swapped(stage: Stage, inode: Inode, works: object) -> None:
    if stage.must_swap_out and not works:
        stage.fail(inode, "swap-out on demand is not supported")


def _swap_out(stage: Stage, handle: Handle) -> None:
    inode, pages = handle.inode, _some_pages(stage, handle.inode)
    stage.note(inode, f"m{handle.member} swap-out of {pages} by descriptor {handle.number}")
    works = stage.call(handle.member, inode, "swap_out", handle.number, pages)
    _check_swapped(stage, inode, works)


def _swap_out_named(stage: Stage, inode: Inode, name: str) -> None:
    member, pages = stage.any_member(), _some_pages(stage, inode)
    stage.note(inode, f"m{member} swap-out of {pages} by name {name}")
    _check_swapped(stage, inode, stage.call(member, inode, "swap_out_named", name, pages))


def _drop(stage: Stage, handle: Handle) -> None:
    """Drop clean page cache; pages with a loaded PTE stay, so most times clear those first."""
    inode = handle.inode
    clears = stage.dice.chance(0.7)
    stage.note(inode, f"m{handle.member} drop of pages, {clears=}, by {handle.number}")
    for mapping in inode.maps if clears else ():
        stage.call(mapping.member, inode, "forget_ptes", mapping.number)
    stage.call(handle.member, inode, "drop_pages", handle.number)


def verify(stage: Stage, inode: Inode) -> bool:
    """Read all of ``inode`` one way or another; False where nothing holds it any more."""
    ways: list[Callable[[], None]] = []
    handle = stage.dice.one_of(inode.handles)
    name = stage.dice.one_of(inode.names)
    if handle is not None:
        ways += [lambda: _verify_handle(stage, handle)] * 2
    if inode.maps:
        ways += [lambda: _verify_maps(stage, inode)]
    if name is not None:
        ways += [lambda: _verify_name(stage, inode, name)]
    way = stage.dice.one_of(ways)
    if way is None:
        return False
    way()
    return True


def _verify_handle(stage: Stage, handle: Handle) -> None:
    inode, member, number = handle.inode, handle.member, handle.number
    stage.note(inode, f"m{member} verify by descriptor {number}")
    for start in range(0, inode.size + 1, _PIECE):
        expected = bytes(inode.data[start : start + _PIECE])
        actual = stage.call(member, inode, "pread", number, start, _PIECE)
        stage.check_bytes(inode, start, expected, actual)
    status = stage.call(member, inode, "status", number)
    stage.check(inode, (inode.size, len(inode.names)), status, "size and links")


def _verify_name(stage: Stage, inode: Inode, name: str) -> None:
    member = stage.any_member()
    stage.note(inode, f"m{member} verify by name {name}")
    status = stage.call(member, inode, "status_named", name)
    stage.check(inode, (inode.size, len(inode.names)), status, "size and links")
    actual = stage.call(member, inode, "read_named", name)
    stage.check_bytes(inode, 0, bytes(inode.data), actual)


def _verify_maps(stage: Stage, inode: Inode) -> None:
    for mapping in inode.maps:
        stage.note(inode, f"m{mapping.member} verify by mapping {mapping.number}")
        _verify_map(stage, mapping)


def _verify_map(stage: Stage, mapping: Mapping) -> None:
    inode = mapping.inode
    for start in range(0, mapping.loadable, _PIECE):
        length = min(_PIECE, mapping.loadable - start)
        actual = stage.call(mapping.member, inode, "peek", mapping.number, start, length)
        expected = mapping.expected(start, length)
        stage.check_bytes(inode, mapping.offset + start, expected, actual)


def verify_all(stage: Stage) -> bool:
    """Read every inode, and the names."""
    for inode in list(stage.model.inodes):
        verify(stage, inode)
    names = stage.call(stage.any_member(), None, "list_directory")
    stage.check(None, sorted(stage.model.named), names, "names of the directory")
    return True
