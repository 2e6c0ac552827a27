"""Operations that read and write bytes, through descriptors and mappings."""

from tests.judge._libc import PAGE
from tests.judge._model import Handle, Inode, Mapping
from tests.judge._stage import Stage

__all__ = [
    "append",
    "fill",
    "fsync",
    "hurry",
    "msync",
    "peek",
    "poke",
    "poke_in_child",
    "pread",
    "pwrite",
    "start_write_back",
    "write_at",
]


def pread(stage: Stage) -> bool:
    handle = stage.dice.one_of(stage.model.handles)
    if handle is None:
        return False
    inode = handle.inode
    offset, length = stage.dice.point(inode.size), stage.dice.length(stage.limits.file)
    stage.note(inode, f"m{handle.member} pread of {length} at {offset} by {handle.number}")
    actual = stage.call(handle.member, inode, "pread", handle.number, offset, length)
    stage.check_bytes(inode, offset, bytes(inode.data[offset : offset + length]), actual)
    return True


def pwrite(stage: Stage) -> bool:
    handles = [handle for handle in stage.model.handles if not handle.appends]
    handle = stage.dice.one_of(handles)
    if handle is None:
        return False
    inode, limit = handle.inode, stage.limit(handle.inode)
    gap = stage.dice.between(0, 32 * PAGE) if stage.dice.chance(0.2) else 0
    offset = min(stage.dice.point(inode.size) + gap, limit)
    if offset >= limit:
        return False
    write_at(stage, handle, offset, stage.dice.length(limit - offset))
    return True


def write_at(stage: Stage, handle: Handle, offset: int, length: int) -> None:
    inode, data = handle.inode, stage.dice.data(length)
    stage.note(inode, f"m{handle.member} pwrite of {length} at {offset} by {handle.number}")
    done = stage.call(handle.member, inode, "pwrite", handle.number, offset, data)
    stage.check(inode, length, done, "bytes written")
    inode.write(offset, data)


def fill(stage: Stage) -> bool:
    """Write much at end-of-file, until there is far more data than a small budget holds."""
    handles = [handle for handle in stage.model.handles if not handle.appends]
    handle = stage.dice.one_of(handles)
    if handle is None or stage.model.bytes_alive > stage.limits.live * 3 // 4:
        return False
    size = handle.inode.size
    room = stage.limit(handle.inode) - size
    if room == 0:
        return False
    write_at(stage, handle, size, min(room, stage.dice.between(64 * PAGE, 512 * PAGE)))
    return True


def append(stage: Stage) -> bool:
    handles = [handle for handle in stage.model.handles if handle.appends]
    handle = stage.dice.one_of(handles)
    if handle is None:
        return False
    inode, room = handle.inode, stage.limit(handle.inode) - handle.inode.size
    if room == 0:
        return False
    data = stage.dice.data(stage.dice.length(room))
    stage.note(inode, f"m{handle.member} append of {len(data)} at {inode.size}")
    done = stage.call(handle.member, inode, "append", handle.number, data)
    stage.check(inode, len(data), done, "bytes written")
    inode.write(inode.size, data)
    return True


def _some_mapping(stage: Stage) -> Mapping | None:
    """A mapping with a byte before end-of-file."""
    return stage.dice.one_of([mapping for mapping in stage.model.maps if mapping.usable])


def peek(stage: Stage) -> bool:
    mapping = _some_mapping(stage)
    if mapping is None:
        return False
    inode, member = mapping.inode, mapping.member
    start, length = stage.dice.span(mapping.loadable)
    offset = mapping.offset + start
    stage.note(inode, f"m{member} load of {length} at {offset} by mapping {mapping.number}")
    actual = stage.call(member, inode, "peek", mapping.number, start, length)
    stage.check_bytes(inode, offset, mapping.expected(start, length), actual)
    return True


def poke(stage: Stage) -> bool:
    return _poke(stage, "poke")


def poke_in_child(stage: Stage) -> bool:
    return _poke(stage, "poke_in_child")


def _poke(stage: Stage, operation: str) -> bool:
    mapping = _some_mapping(stage)
    if mapping is None:
        return False
    start, length = stage.dice.span(mapping.usable)
    _poke_at(stage, mapping, start, length, operation)
    return True


def _poke_at(
    stage: Stage, mapping: Mapping, start: int, length: int, operation: str = "poke"
) -> None:
    inode, member = mapping.inode, mapping.member
    data, offset = stage.dice.data(length), mapping.offset + start
    stage.note(inode, f"m{member} {operation} of {length} at {offset} by {mapping.number}")
    status = stage.call(member, inode, operation, mapping.number, start, data)
    if operation == "poke_in_child":
        stage.check(inode, 0, status, "wait status of the child")
    inode.write(offset, data)


def msync(stage: Stage) -> bool:
    mapping = stage.dice.one_of(stage.model.maps)
    if mapping is None:
        return False
    stage.note(mapping.inode, f"m{mapping.member} msync of {mapping.number}")
    stage.call(mapping.member, mapping.inode, "msync", mapping.number)
    return True


def fsync(stage: Stage) -> bool:
    handle = stage.dice.one_of(stage.model.handles)
    if handle is None:
        return False
    stage.note(handle.inode, f"m{handle.member} fsync of {handle.number}")
    stage.call(handle.member, handle.inode, "fsync", handle.number)
    return True


def start_write_back(stage: Stage) -> bool:
    handle = stage.dice.one_of(stage.model.handles)
    return handle is not None and hurry(stage, handle.inode)


def hurry(stage: Stage, inode: Inode) -> bool:
    """Put the writes of dirty pages on their way, so that what comes next may overtake them."""
    handle = stage.dice.one_of(inode.handles)
    if handle is None:
        return False
    mapping = stage.dice.one_of([mapping for mapping in inode.maps if mapping.usable])
    if mapping is not None and stage.dice.chance(0.5):
        _poke_at(stage, mapping, 0, mapping.usable)
    stage.note(inode, f"m{handle.member} start of write-back by {handle.number}")
    stage.call(handle.member, inode, "start_write_back", handle.number)
    return True
