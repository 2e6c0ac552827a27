"""Operations that change a file's size, and then look whether its old bytes come back."""

import os

from tests.judge._holding import open_name, some_name
from tests.judge._libc import PAGE
from tests.judge._model import Inode
from tests.judge._moving_bytes import hurry, write_at
from tests.judge._scrutiny import chase, evict
from tests.judge._stage import Stage

__all__ = ["open_truncating", "resize"]


def resize(stage: Stage) -> bool:
    inode = stage.dice.one_of(stage.model.inodes)
    if inode is None:
        return False
    size, limit = inode.size, stage.limit(inode)
    if limit > size and stage.dice.chance(0.35):
        return _resize(stage, inode, size + stage.dice.length(limit - size))
    if stage.dice.chance(0.2):
        hurry(stage, inode)
    base = 0 if stage.dice.chance(0.3) else max(0, size - 64 * PAGE)
    if not _resize(stage, inode, base + stage.dice.point(size - base)):
        return False
    _chase_after_shrink(stage, inode, size)
    return True


def open_truncating(stage: Stage) -> bool:
    name = some_name(stage)
    if name is None or len(stage.model.handles) >= stage.limits.handles:
        return False
    inode = stage.model.named[name]
    size = inode.size
    if stage.dice.chance(0.4):
        hurry(stage, inode)
    open_name(stage, inode, name, os.O_TRUNC)
    inode.resize(0)
    _chase_after_shrink(stage, inode, size)
    return True


def _resize(stage: Stage, inode: Inode, size: int) -> bool:
    """Set a size through a descriptor or a name; False where there is neither."""
    handle, name = stage.dice.one_of(inode.handles), stage.dice.one_of(inode.names)
    if handle is not None and (name is None or stage.dice.chance(0.7)):
        stage.note(inode, f"m{handle.member} ftruncate from {inode.size} to {size}")
        stage.call(handle.member, inode, "ftruncate", handle.number, size)
    elif name is not None:
        member = stage.any_member()
        stage.note(inode, f"m{member} truncate of {name} from {inode.size} to {size}")
        stage.call(member, inode, "truncate", name, size)
    else:
        return False
    inode.resize(size)
    return True


def _chase_after_shrink(stage: Stage, inode: Inode, old_size: int) -> None:
    """Often grow a file again after a shrink: what it held must not come back."""
    if stage.dice.chance(0.4):
        stage.plans.append(lambda: evict(stage, inode))
    if stage.dice.chance(0.7):
        stage.plans.append(lambda: _grow(stage, inode, old_size))
    if stage.dice.chance(0.8):
        chase(stage, inode)


def _grow(stage: Stage, inode: Inode, size: int) -> bool:
    """Grow to about ``size``: with ftruncate, or by writing behind a hole."""
    end = min(stage.limit(inode), size + stage.dice.between(-PAGE, PAGE))
    if end <= inode.size:
        return False
    writers = [handle for handle in inode.handles if not handle.appends]
    writer = stage.dice.one_of(writers)
    if writer is None or stage.dice.chance(0.6):
        return _resize(stage, inode, end)
    start = stage.dice.between(inode.size, end - 1)
    write_at(stage, writer, start, stage.dice.length(end - start))
    return True
