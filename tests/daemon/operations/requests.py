"""What requests carry: who asks, numbers out of range, and the structures of a SETATTR."""

from types import SimpleNamespace
from typing import Any

from pyfuse3 import EntryAttributes

MOST = 1 << 63
CTX: Any = SimpleNamespace(uid=0, gid=0, pid=1, umask=0)
USER: Any = SimpleNamespace(uid=1000, gid=1000, pid=1, umask=0)
NOWHERE = 0x7FFF_FFFF
"""An inode number and a handle that nobody ever got."""


def setattr_fields(**wanted: bool) -> Any:
    names = ("size", "mode", "uid", "gid", "atime", "mtime", "ctime")
    return SimpleNamespace(**{f"update_{name}": wanted.get(name, False) for name in names})


def entry_attributes(**values: int) -> EntryAttributes:
    attributes = EntryAttributes()
    for name, value in values.items():
        setattr(attributes, f"st_{name}", value)
    return attributes
