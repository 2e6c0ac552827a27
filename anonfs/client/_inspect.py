"""Looking at an inode, and asking for its pages to be swapped out: the extended attributes.

The text of the attributes is `anonfs.inspection`'s business; here is only where it is read from
and what a refusal means. Anything that stands for a file will do as a target: a path, an open
descriptor, or an object with ``fileno()`` such as a `Mapping`.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from anonfs.client._errors import ClientError, DaemonGoneError, NotAnonfsError
from anonfs.client._mount_table import mount_of
from anonfs.client._tree import whole_attribute
from anonfs.inspection import (
    PREFIX,
    Area,
    Attaches,
    Counts,
    Front,
    Lock,
    PageCounts,
    PageRun,
    Parent,
    Reap,
    Reserved,
    parse_lines,
)
from anonfs.units import pages_for

__all__ = [
    "HasFileno",
    "Inspection",
    "Target",
    "areas",
    "attaches",
    "freeze",
    "front_of",
    "inspect",
    "lock",
    "make_private",
    "page_counts",
    "page_runs",
    "reap",
    "reap_policy",
    "swap_out",
    "unlock",
]

_Answer = TypeVar("_Answer")


class HasFileno(Protocol):
    """An object with an open descriptor."""

    def fileno(self) -> int:
        """The descriptor."""


Target = str | os.PathLike[str] | int | HasFileno
"""What can be looked at: a path, an open descriptor, or an object that has one."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What anonfs tells of one inode.

    The attributes are read one after the other, so on a busy inode they may be moments apart.
    ``runs`` and ``areas`` that exceed the 64 KiB of an extended attribute are read from the tree
    ``.anonfs/`` of the mount. Where that may not be read they are cut, and ``complete`` or
    ``areas_complete`` is false. The others are always whole.
    """

    kind: str
    pages: PageCounts
    reserved: Reserved
    runs: list[PageRun]
    complete: bool
    areas: list[Area]
    areas_complete: bool
    counts: Counts
    reap: Reap
    locked: bool
    parent: Parent
    front: Front | None


def _handle(target: Target) -> str | os.PathLike[str] | int:
    """``target`` as the os module takes it."""
    return target if isinstance(target, str | os.PathLike | int) else target.fileno()


def _called(handle: str | os.PathLike[str] | int) -> str:
    return f"descriptor {handle}" if isinstance(handle, int) else os.fspath(handle)


def _asked(handle: str | os.PathLike[str] | int, call: Callable[[], _Answer]) -> _Answer:
    """The answer of ``call`` about ``handle``, its refusals put into words."""
    try:
        return call()
    except OSError as error:
        path = Path(f"/proc/self/fd/{handle}").readlink() if isinstance(handle, int) else handle
        if error.errno == errno.ENOTCONN:
            raise DaemonGoneError.at(mount_of(path) or path) from error
        if error.errno in {errno.ENODATA, errno.ENOTSUP} and mount_of(path) is None:
            raise NotAnonfsError(f"{_called(handle)} is not in an anonfs mount") from error
        if error.errno == errno.ENODATA:
            raise NotAnonfsError(f"{_called(handle)} has no pages to look at") from error
        raise


def _text(handle: str | os.PathLike[str] | int, name: str) -> str:
    return os.fsdecode(_asked(handle, lambda: os.getxattr(handle, PREFIX + name)))


def _lines(handle: str | os.PathLike[str] | int, name: str) -> tuple[list[str], bool]:
    """The lines of an attribute, from the tree where it is too long; whether they are all."""
    found, complete = parse_lines(_text(handle, name))
    whole = None if complete else whole_attribute(handle, name)
    return (found, complete) if whole is None else (whole.splitlines(), True)


def page_counts(target: Target) -> PageCounts:
    """The pages of an inode by state; errors as of `inspect`."""
    return PageCounts.parse(_text(_handle(target), "pages"))


def page_runs(target: Target) -> tuple[list[PageRun], bool]:
    """The runs of pages in one state, and whether they are all; errors as of `inspect`."""
    lines, complete = _lines(_handle(target), "pagemap")
    return [PageRun.parse(line) for line in lines], complete


def areas(target: Target) -> tuple[list[Area], bool]:
    """The vm areas of an inode, and whether they are all; errors as of `inspect`."""
    lines, complete = _lines(_handle(target), "ring")
    return [Area.parse(line) for line in lines], complete


def reap_policy(target: Target) -> Reap:
    """When a file goes by itself; errors as of `inspect`."""
    return Reap.parse(_text(_handle(target), "reap"))


def front_of(target: Target) -> Front | None:
    """The file that an overlay shows, None of other files; errors as of `inspect`."""
    text = _text(_handle(target), "front")
    return None if text.strip() == "none" else Front.parse(text)


def inspect(target: Target) -> Inspection:
    """The state of the inode behind ``target``; a relative path is one of this process.

    Raises:
        NotAnonfsError: it is not a file of an anonfs.
        OSError: as getxattr(2): no such file, no permission to read it.
    """
    handle = _handle(target)

    def value(name: str) -> str:
        return _text(handle, name)

    kind = value("kind").strip()
    runs, complete = page_runs(handle)
    ring, areas_complete = areas(handle)
    return Inspection(
        kind=kind,
        pages=PageCounts.parse(value("pages")),
        reserved=Reserved.parse(value("reserved")),
        runs=runs,
        complete=complete,
        areas=ring,
        areas_complete=areas_complete,
        counts=Counts.parse(value("count")),
        reap=Reap.parse(value("reap")),
        locked=Lock.parse(value("lock")).on,
        parent=Parent.parse(value("parent")),
        front=front_of(handle),
    )


def attaches(target: Target) -> Attaches:
    """How many vm areas the inode has now, and who mapped or unmapped it last.

    Raises:
        NotAnonfsError: it is not a file of an anonfs.
        OSError: as `inspect`.
    """
    return Attaches.parse(_text(_handle(target), "attaches"))


def reap(target: Target, policy: str) -> None:
    """Decide when all names of a file are taken away without anybody's asking.

    ``last-area``: when nobody maps it any more. ``last-attach``: when nobody of this process's
    group does, or with ``last-attach PGID`` of that group. ``never`` is the default. Areas from
    before do not count.

    Raises:
        ClientError: ``policy`` is none of these.
        NotAnonfsError: it is not a file of an anonfs.
        OSError: EPERM, it is another user's; as setxattr(2).
    """
    try:
        wanted = Reap.parse(policy)
    except ValueError as error:
        raise ClientError(str(error)) from None
    handle = _handle(target)
    _asked(handle, lambda: os.setxattr(handle, f"{PREFIX}reap", wanted.render().encode()))


def lock(target: Target) -> None:
    """Bring all pages of a file into core, and keep them there, as SHM_LOCK of shmctl(2) does.

    Neither reclaim nor `swap_out` takes them away, nor those that the file gets while it is locked.

    Raises:
        NotAnonfsError: it is not a file of an anonfs.
        OSError: ENOMEM, that much cannot be locked; EPERM, it is another user's; EIO, a page did
            not come back from swap, and the file is not locked.
    """
    _set_lock(target, on=True)


def unlock(target: Target) -> None:
    """End `lock`. Raises OSError: as `lock`."""
    _set_lock(target, on=False)


def _set_lock(target: Target, *, on: bool) -> None:
    handle = _handle(target)
    _asked(handle, lambda: os.setxattr(handle, f"{PREFIX}lock", Lock(on).render().encode()))


def freeze(descriptor: int) -> None:
    """Let a file be a copy of another, and nothing else ever; errors as of `make_private`."""
    _asked(descriptor, lambda: os.setxattr(descriptor, f"{PREFIX}kind", b"frozen"))


def make_private(descriptor: int) -> None:
    """Say of a file that it is private memory. Raises OSError: EINVAL, it has a name or bytes."""
    _asked(descriptor, lambda: os.setxattr(descriptor, f"{PREFIX}kind", b"private"))


def swap_out(target: Target, first: int | None = None, last: int | None = None) -> None:
    """Write the pages ``first`` to ``last``, ends included, to swap; by default all of them.

    Every process that maps them keeps its mapping, and the next touch brings a page back.
    Returns when they are written. Pages that were never allocated are left alone.

    Raises:
        ClientError: ``first`` and ``last`` are not a range of pages.
        NotAnonfsError: it is not a file of an anonfs.
        OSError: as setxattr(2); ENOSPC when the swap areas are full.
    """
    handle = _handle(target)
    order = _range_order(handle, first, last)
    if order:
        _asked(handle, lambda: os.setxattr(handle, f"{PREFIX}swapout", order.encode()))


def _last_page(handle: str | os.PathLike[str] | int) -> int:
    status = os.fstat(handle) if isinstance(handle, int) else Path(handle).stat()
    return pages_for(status.st_size) - 1


def _range_order(
    handle: str | os.PathLike[str] | int, first: int | None, last: int | None
) -> str | None:
    """The text that orders a swap-out of that range; None when the range holds no page."""
    if first is None and last is None:
        return "all"
    start = first or 0
    end = _last_page(handle) if last is None else last
    if start < 0 or (last is not None and last < start):
        raise ClientError(f"pages {start} to {last} are not a range")
    return f"{start}-{end}" if start <= end else None
