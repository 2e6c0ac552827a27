"""Extended attributes: those of an inode are one byte string, rewritten whole at each change.

They are few, small and rarely written; a whole new string that is published by one store of its
number can be torn by nothing::

    ┌──────────┬───────────┬──────┬───────┐
    │ name len │ value len │ name │ value │ ...      2 + 4 bytes, little endian
    └──────────┴───────────┴──────┴───────┘
"""

import errno
import struct
from collections.abc import Callable

from anonfs.errors import AnonfsError
from anonfs.mm import BlobStore
from anonfs.vfs._inode import Inode

__all__ = ["Xattrs"]

_HEADER = struct.Struct("<HI")
_ALL_MAX = 1 << 20
_NAMESPACES = (b"user.", b"trusted.", b"security.")


class Xattrs:
    """The extended attributes of all inodes, in ``blobs``; a change sets ctime to ``now()``."""

    def __init__(self, blobs: BlobStore, now: Callable[[], int]) -> None:
        self._blobs = blobs
        self._now = now

    def all(self, inode: Inode) -> dict[bytes, bytes]:
        """Names and values."""
        return _unpack(self._blobs.get(inode.xattrs)) if inode.xattrs else {}

    def get(self, inode: Inode, name: bytes) -> bytes:
        """The value of one. Raises AnonfsError: ENODATA."""
        value = self.all(inode).get(name)
        if value is None:
            raise AnonfsError(errno.ENODATA)
        return value

    def set(self, inode: Inode, name: bytes, value: bytes) -> None:
        """Set one.

        Raises:
            AnonfsError: EOPNOTSUPP for a foreign namespace, EINVAL for the name of one alone,
                ENOSPC when those of the inode would exceed 1 MiB.
        """
        if not name.startswith(_NAMESPACES):
            raise AnonfsError(errno.EOPNOTSUPP)
        if name in _NAMESPACES:
            raise AnonfsError(errno.EINVAL, "the name of a namespace alone")
        self._store(inode, {**self.all(inode), name: value})

    def remove(self, inode: Inode, name: bytes) -> None:
        """Remove one. Raises AnonfsError: ENODATA."""
        attributes = self.all(inode)
        if attributes.pop(name, None) is None:
            raise AnonfsError(errno.ENODATA)
        self._store(inode, attributes)

    def _store(self, inode: Inode, attributes: dict[bytes, bytes]) -> None:
        old = inode.xattrs
        inode.xattrs = self._blobs.put(_pack(attributes))
        self._blobs.drop(old)
        inode.ctime = self._now()


def _pack(attributes: dict[bytes, bytes]) -> bytes:
    packed = b"".join(
        _HEADER.pack(len(name), len(value)) + name + value for name, value in attributes.items()
    )
    if len(packed) > _ALL_MAX:
        raise AnonfsError(errno.ENOSPC, "extended attributes beyond 1 MiB")
    return packed


def _unpack(packed: bytes) -> dict[bytes, bytes]:
    attributes = {}
    at = 0
    while at < len(packed):
        name_size, value_size = _HEADER.unpack_from(packed, at)
        at += _HEADER.size
        value_at = at + name_size
        attributes[packed[at:value_at]] = packed[value_at : value_at + value_size]
        at = value_at + value_size
    return attributes
