"""Extended attributes of one inode as one byte string, rewritten whole at each change.

Attributes are few, small and rarely written; a whole new string that is published by one store of
its number can be torn by nothing::

    ┌──────────┬───────────┬──────┬───────┐
    │ name len │ value len │ name │ value │ ...      2 + 4 bytes, little endian
    └──────────┴───────────┴──────┴───────┘
"""

import errno
import struct

from anonfs.errors import AnonfsError

__all__ = ["pack", "unpack"]

_HEADER = struct.Struct("<HI")
_ALL_MAX = 1 << 20


def pack(attributes: dict[bytes, bytes]) -> bytes:
    """``attributes`` as one string.

    Raises:
        AnonfsError: ENOSPC, together they are larger than 1 MiB.
    """
    packed = b"".join(
        _HEADER.pack(len(name), len(value)) + name + value for name, value in attributes.items()
    )
    if len(packed) > _ALL_MAX:
        raise AnonfsError(errno.ENOSPC, "extended attributes beyond 1 MiB")
    return packed


def unpack(packed: bytes) -> dict[bytes, bytes]:
    """What was packed."""
    attributes = {}
    at = 0
    while at < len(packed):
        name_size, value_size = _HEADER.unpack_from(packed, at)
        at += _HEADER.size
        value_at = at + name_size
        attributes[packed[at:value_at]] = packed[value_at : value_at + value_size]
        at = value_at + value_size
    return attributes
