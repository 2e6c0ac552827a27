"""What a program uses: find the mount, make and open files, map them, look at them.

    >>> from anonfs.client import connect
    >>> fs = connect()
    >>> with fs.map("job-7", 1 << 20) as shared:
    ...     shared[:5] = b"hello"
    ...     shared.flush()  # msync(2): the write reaches the page map
    ...     shared.inspect().pages.in_core
    1

This floor talks to the kernel alone: files, mmap and extended attributes of a mounted anonfs. It
knows nothing of the engine below it or of the daemon behind the mount, and needs neither on its
machine's Python path. Every error is an ``OSError``; those that anonfs words itself are a
`ClientError` with one line that says what to do.
"""

from anonfs.client._addresses import address_of, map_file
from anonfs.client._attach import attach
from anonfs.client._choice import MOUNT_VARIABLE, default_mountpoint, find_mount
from anonfs.client._client import Client, Entry, connect, private
from anonfs.client._clone import clone, clone_into
from anonfs.client._commit import commit
from anonfs.client._errors import (
    BadNameError,
    ClientError,
    DaemonGoneError,
    NoMountError,
    NotAnonfsError,
)
from anonfs.client._file import File
from anonfs.client._inspect import (
    Inspection,
    Target,
    areas,
    attaches,
    inspect,
    lock,
    page_counts,
    page_runs,
    reap,
    reap_policy,
    swap_out,
    unlock,
)
from anonfs.client._mapping import Mapping
from anonfs.client._mount_table import FS_TYPE, Mount, anonfs_at, anonfs_mounts, mount_at, mount_of
from anonfs.client._overlay import changes, discard, overlay
from anonfs.client._private import PrivateMemory
from anonfs.client._private_file import private_file
from anonfs.client._tree import limits, meminfo, swaps
from anonfs.client._userfaultfd import new_userfaultfd
from anonfs.client._watch import Watch, WatchOperations, watch

__all__ = [
    "FS_TYPE",
    "MOUNT_VARIABLE",
    "BadNameError",
    "Client",
    "ClientError",
    "DaemonGoneError",
    "Entry",
    "File",
    "Inspection",
    "Mapping",
    "Mount",
    "NoMountError",
    "NotAnonfsError",
    "PrivateMemory",
    "Target",
    "Watch",
    "WatchOperations",
    "address_of",
    "anonfs_at",
    "anonfs_mounts",
    "areas",
    "attach",
    "attaches",
    "changes",
    "clone",
    "clone_into",
    "commit",
    "connect",
    "default_mountpoint",
    "discard",
    "find_mount",
    "inspect",
    "limits",
    "lock",
    "map_file",
    "meminfo",
    "mount_at",
    "mount_of",
    "new_userfaultfd",
    "overlay",
    "page_counts",
    "page_runs",
    "private",
    "private_file",
    "reap",
    "reap_policy",
    "swap_out",
    "swaps",
    "unlock",
    "watch",
]
