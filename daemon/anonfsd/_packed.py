"""Answers as the kernel wants them, byte by byte: what pyfuse3 packs where it answers itself.

The layouts are those of linux/fuse.h.
"""

import struct

from pyfuse3 import EntryAttributes, FileInfo, StatvfsData

__all__ = ["packed_attributes", "packed_entry", "packed_open", "packed_space"]

_SECOND = 1_000_000_000

_ATTR = struct.Struct("=QQQqqqIIIIIIIIII")  # fuse_attr
_ATTR_OUT = struct.Struct("=QII")  # fuse_attr_out: validity in seconds and nanoseconds; fuse_attr
_ENTRY_OUT = struct.Struct("=QQQQII")  # fuse_entry_out: inode, generation, validities; fuse_attr
_OPEN_OUT = struct.Struct("=QII")  # fuse_open_out: handle, flags
_STATFS_OUT = struct.Struct("=QQQQQIII28x")
_DIRECT_IO, _KEEP_CACHE, _NONSEEKABLE = 1 << 0, 1 << 1, 1 << 2
_DEVICE = 0xFFFF_FFFF


def packed_entry(entry: EntryAttributes) -> bytes:
    """The inode that a name means, which the kernel counts as a lookup."""
    name_seconds, name_rest = _validity(entry.entry_timeout)
    seconds, rest = _validity(entry.attr_timeout)
    inode = entry.st_ino, entry.generation
    return _ENTRY_OUT.pack(*inode, name_seconds, seconds, name_rest, rest) + _attributes(entry)


def packed_attributes(entry: EntryAttributes) -> bytes:
    """The attributes of an inode."""
    return _ATTR_OUT.pack(*_validity(entry.attr_timeout), 0) + _attributes(entry)


def packed_open(file: FileInfo) -> bytes:
    """An open file."""
    flags = (
        _DIRECT_IO * file.direct_io
        | _KEEP_CACHE * file.keep_cache
        | _NONSEEKABLE * file.nonseekable
    )
    return _OPEN_OUT.pack(file.fh, flags, 0)


def packed_space(space: StatvfsData) -> bytes:
    """What there is room for."""
    blocks = space.f_blocks, space.f_bfree, space.f_bavail
    files = space.f_files, space.f_ffree
    return _STATFS_OUT.pack(*blocks, *files, space.f_bsize, space.f_namemax, space.f_frsize)


def _validity(seconds: float) -> tuple[int, int]:
    """Seconds and nanoseconds."""
    return int(seconds), int(seconds % 1 * _SECOND)


def _attributes(entry: EntryAttributes) -> bytes:
    accessed, accessed_rest = divmod(entry.st_atime_ns, _SECOND)
    modified, modified_rest = divmod(entry.st_mtime_ns, _SECOND)
    changed, changed_rest = divmod(entry.st_ctime_ns, _SECOND)
    return _ATTR.pack(
        entry.st_ino,
        entry.st_size,
        entry.st_blocks,
        accessed,
        modified,
        changed,
        accessed_rest,
        modified_rest,
        changed_rest,
        entry.st_mode,
        entry.st_nlink,
        entry.st_uid,
        entry.st_gid,
        entry.st_rdev & _DEVICE,
        entry.st_blksize,
        0,
    )
