"""Operations that open, map, and let go.

Whatever holds a file may be the last that does: a descriptor, a mapping, a name.
"""

import functools
import os

from tests.judge._libc import PAGE
from tests.judge._model import Handle, Inode, Mapping
from tests.judge._scrutiny import verify
from tests.judge._stage import Stage

__all__ = [
    "close",
    "crash",
    "create",
    "map_file",
    "open_file",
    "open_name",
    "retire",
    "some_name",
    "unmap",
]


def open_name(stage: Stage, inode: Inode, name: str, flags: int) -> Handle:
    member, appends = stage.any_member(), stage.dice.chance(0.15)
    handle = Handle(stage.model.number(), member, inode, appends)
    flags |= os.O_RDWR | (os.O_APPEND if appends else 0)
    stage.note(inode, f"m{member} open of {name} as {handle.number}, {flags=:#o}")
    stage.call(member, inode, "open", handle.number, name, flags)
    stage.model.add_handle(handle)
    return handle


def some_name(stage: Stage) -> str | None:
    return stage.dice.one_of(list(stage.model.named))


def create(stage: Stage) -> bool:
    model, limits = stage.model, stage.limits
    if len(model.named) >= limits.names or len(model.handles) >= limits.handles:
        return False
    if len(model.inodes) >= limits.inodes:
        return False
    name = f"f{model.number()}"
    inode = model.create(name)
    open_name(stage, inode, name, os.O_CREAT | os.O_EXCL)
    return True


def open_file(stage: Stage) -> bool:
    name = some_name(stage)
    if name is None or len(stage.model.handles) >= stage.limits.handles:
        return False
    open_name(stage, stage.model.named[name], name, 0)
    return True


def _close(stage: Stage, handle: Handle) -> None:
    stage.note(handle.inode, f"m{handle.member} close of {handle.number}")
    stage.call(handle.member, handle.inode, "close", handle.number)
    stage.model.remove_handle(handle)


def close(stage: Stage) -> bool:
    handle = stage.dice.one_of(stage.model.handles)
    if handle is None:
        return False
    _close(stage, handle)
    return True


def map_file(stage: Stage) -> bool:
    handle = stage.dice.one_of(stage.model.handles)
    if handle is None or len(stage.model.maps) >= stage.limits.maps:
        return False
    inode, member = handle.inode, handle.member
    pages = 1 + inode.size // PAGE
    first = 0 if stage.dice.chance(0.5) else stage.dice.between(0, pages - 1)
    length = pages - first + stage.dice.between(0, 64)
    if stage.dice.chance(0.3):
        length = stage.dice.between(1, length)
    mapping = Mapping(stage.model.number(), member, inode, first * PAGE, length * PAGE)
    stage.note(inode, f"m{member} mmap of {length} pages from {first} as {mapping.number}")
    arguments = (mapping.number, handle.number, mapping.offset, mapping.length)
    stage.call(member, inode, "map", *arguments)
    stage.model.add_mapping(mapping)
    return True


def _unmap(stage: Stage, mapping: Mapping) -> None:
    stage.note(mapping.inode, f"m{mapping.member} munmap of {mapping.number}")
    stage.call(mapping.member, mapping.inode, "unmap", mapping.number)
    stage.model.remove_mapping(mapping)


def unmap(stage: Stage) -> bool:
    mapping = stage.dice.one_of(stage.model.maps)
    if mapping is None:
        return False
    _unmap(stage, mapping)
    return True


def retire(stage: Stage) -> bool:
    """Where there are many files, let go of one that has no name."""
    inode = stage.dice.one_of([inode for inode in stage.model.inodes if not inode.names])
    if inode is None or len(stage.model.inodes) < stage.limits.inodes:
        return False
    for mapping in list(inode.maps):
        _unmap(stage, mapping)
    for handle in list(inode.handles):
        _close(stage, handle)
    return True


def crash(stage: Stage) -> bool:
    """A member is killed: what it stored stays, what only it held goes."""
    number = stage.any_member()
    member = stage.crew[number]
    if not member.can_crash:
        return False
    held = [item.inode for item in stage.model.maps if item.member == number]
    for inode in held:
        stage.note(inode, f"m{number} is killed")
    member.crash()
    stage.model.remove_member(number)
    for inode in dict.fromkeys(held):
        stage.plans.append(functools.partial(verify, stage, inode))
    return True
