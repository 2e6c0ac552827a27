"""The inspection attributes of a file: what `anonfs.inspection` writes, from the live state.

Each is one line or several. As an attribute it is cut where it gets too long for one; `lines` has
all of it.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import trio

from anonfs.errors import AnonfsError
from anonfs.inspection import (
    NEVER,
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
    bounded_lines,
)
from anonfs.units import pages_for
from anonfs.vfs import FileSystem, Inode, check_empty
from anonfs.vm import ShareRing
from anonfsd._fronts import FrontFile
from anonfsd._rings import Rings

__all__ = ["Caller", "Inspection", "Line"]

_PREFIX = PREFIX.encode()
_KIND, _REAP, _LOCK, _SWAPOUT = (_PREFIX + name for name in (b"kind", b"reap", b"lock", b"swapout"))
_LONG_REQUESTS = 500
_THREADS = 4
_RANGE = re.compile(rb"(\d{1,15})-(\d{1,15})")

_LISTS = {b"pagemap", b"ring"}

SwapOut = Callable[[Inode, int, int], None]
LockPages = Callable[[Inode], None]


class Line(Protocol):
    """A line of an attribute, as `anonfs.inspection` has them."""

    def render(self) -> str:
        """Its text, without the newline."""


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: str

    def render(self) -> str:
        return self.kind


_SHARED, _PRIVATE, _FROZEN = _Kind("shared"), _Kind("private"), _Kind("frozen")


class Caller(NamedTuple):
    """Who makes a request: a user id, and the id of a thread, 0 of one that we cannot see."""

    uid: int
    pid: int


class Inspection:
    """Reads and writes the attributes whose names begin with ``user.anonfs.``.

    ``swap_out`` and ``lock`` are called in threads.
    """

    READABLE = (
        b"kind",
        b"pages",
        b"reserved",
        b"pagemap",
        b"ring",
        b"count",
        b"attaches",
        b"reap",
        b"lock",
        b"parent",
        b"front",
    )

    def __init__(
        self, filesystem: FileSystem, rings: Rings, swap_out: SwapOut, lock: LockPages
    ) -> None:
        self._reaping = filesystem.reaping
        self._unlock = filesystem.promising.unlock
        self._rings = rings
        self._swap_out = swap_out
        self._lock = lock
        self._waiting = 0
        self._limiter = trio.CapacityLimiter(_THREADS)
        pages = self._kind, self._pages, self._reserved, self._pagemap
        others = self._ring, self._count, self._attaches, self._reap, self._locked
        copies = self._parent, self._front
        self._readers = dict(zip(self.READABLE, (*pages, *others, *copies), strict=True))

    @staticmethod
    def owns(name: bytes) -> bool:
        """Whether ``name`` is one of these attributes, or would be."""
        return name.startswith(_PREFIX)

    def names(self, inode: Inode) -> list[bytes]:
        """The attributes that ``inode`` has."""
        if not inode.is_regular:
            return []
        return [_PREFIX + name for name in (*self._readers, b"swapout")]

    async def get(self, inode: Inode, name: bytes, uid: int) -> bytes:
        """The value of an attribute, for a reader with user id ``uid``.

        Raises:
            AnonfsError: ENODATA, there is no such attribute; EPERM, it is write-only.
        """
        if name not in self.names(inode):
            raise AnonfsError(errno.ENODATA)
        short = name.removeprefix(_PREFIX)
        if short not in self._readers:
            raise AnonfsError(errno.EPERM, "write-only")
        texts = (line.render() for line in await self.lines(inode, short, uid))
        text = bounded_lines(texts) if short in _LISTS else "".join(texts)
        return os.fsencode(text)

    async def lines(self, inode: Inode, name: bytes, uid: int) -> Iterable[Line]:
        """All lines of the attribute called ``user.anonfs.`` and ``name``, one of `READABLE`.

        They may be made as they are taken: take them before the next wait.
        """
        return await self._readers[name](inode, uid)

    async def set(self, inode: Inode, name: bytes, value: bytes, caller: Caller) -> None:
        """Do what writing an attribute asks for.

        Raises:
            AnonfsError: EPERM, it is read-only, none of ours, or not for this caller to write;
                EINVAL, a bad value.
        """
        if name == _REAP and inode.is_regular:
            await self._set_reap(inode, _parsed_reap(value, caller), caller)
        elif name == _LOCK and inode.is_regular:
            await self._set_lock(inode, _parsed_lock(value), caller)
        elif name == _KIND and inode.is_regular:
            _set_kind(inode, value, caller)
        elif name == _SWAPOUT and inode.is_regular:
            await self._swap_out_range(inode, value)
        else:
            raise AnonfsError(errno.EPERM, "read-only")

    async def remove(self, inode: Inode, name: bytes, caller: Caller) -> None:
        """Do what removing an attribute asks for: of ``reap``, never to reap; of ``lock``, off.

        Raises AnonfsError: EPERM, as `set`.
        """
        if name == _REAP and inode.is_regular:
            await self._set_reap(inode, NEVER, caller)
        elif name == _LOCK and inode.is_regular:
            await self._set_lock(inode, Lock(on=False), caller)
        else:
            raise AnonfsError(errno.EPERM, "it cannot be removed")

    async def _set_lock(self, inode: Inode, lock: Lock, caller: Caller) -> None:
        _require_owner(inode, caller)
        if lock.on:
            await self._in_thread(self._lock, inode)
        else:
            self._unlock(inode)

    async def _set_reap(self, inode: Inode, policy: Reap, caller: Caller) -> None:
        _require_owner(inode, caller)
        if policy != NEVER:
            # Areas that there are now must be known, or their close would not be noticed.
            with self.long_request():
                await self._rings.look()
        self._reaping.set(inode, policy)

    async def _swap_out_range(self, inode: Inode, value: bytes) -> None:
        pages = pages_for(inode.size)
        text = value.strip()
        if text == b"all":
            first, last = 0, pages - 1
        elif (match := _RANGE.fullmatch(text)) is not None:
            first, last = int(match[1]), int(match[2])
            if first > last or last >= pages:
                raise AnonfsError(errno.EINVAL, f"pages {first}-{last} of {pages}")
        else:
            raise AnonfsError(errno.EINVAL, "write 'all' or FIRST-LAST")
        if first <= last:
            await self._in_thread(self._swap_out, inode, first, last)

    async def _in_thread(self, call: Callable[..., None], *arguments: object) -> None:
        with self.long_request():
            await trio.to_thread.run_sync(call, *arguments, limiter=self._limiter)

    @contextmanager
    def long_request(self) -> Iterator[None]:
        """Bound the requests that wait for something that itself takes requests to be answered.

        If they took every worker there would be nobody left to answer those.
        """
        if self._waiting >= _LONG_REQUESTS:
            raise AnonfsError(errno.EAGAIN, "too many requests of this kind at once")
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @staticmethod
    async def _kind(inode: Inode, _uid: int) -> Iterable[Line]:
        if inode.is_frozen:
            return [_FROZEN]
        return [_PRIVATE if inode.is_private else _SHARED]

    @staticmethod
    async def _pages(inode: Inode, _uid: int) -> Iterable[Line]:
        total, info = pages_for(inode.size), inode.info
        in_core, on_swap = (info.in_core, info.on_swap) if info is not None else (0, 0)
        shown = info.front_shown(0, total) if info is not None else 0
        none = total - in_core - on_swap - shown
        return [PageCounts(total, none, in_core, on_swap, shown)]

    @staticmethod
    async def _reserved(inode: Inode, _uid: int) -> Iterable[Line]:
        return [Reserved(inode.promised)]

    @staticmethod
    async def _pagemap(inode: Inode, _uid: int) -> Iterable[Line]:
        runs = inode.info.runs(pages_for(inode.size)) if inode.info is not None else iter(())
        return (PageRun(first, last, state.label) for first, last, state in runs)

    async def _ring(self, inode: Inode, uid: int) -> Iterable[Line]:
        with self.long_request():
            await self._rings.look()
        return _areas(inode, uid)

    async def _count(self, inode: Inode, _uid: int) -> Iterable[Line]:
        with self.long_request():
            await self._rings.look()
            ptes = await self._rings.loaded_ptes(inode)
        areas = len(ShareRing(inode))
        return [Counts(inode.dentry.count, areas, inode.opens, inode.names, ptes)]

    async def _attaches(self, inode: Inode, _uid: int) -> Iterable[Line]:
        with self.long_request():
            await self._rings.look()
        pid, began, ended = inode.attaches
        return [Attaches(len(ShareRing(inode)), pid or 0, int(began), int(ended))]

    async def _reap(self, inode: Inode, _uid: int) -> Iterable[Line]:
        return [self._reaping.policy(inode)]

    @staticmethod
    async def _locked(inode: Inode, _uid: int) -> Iterable[Line]:
        return [Lock(on=bool(inode.locked))]

    @staticmethod
    async def _parent(inode: Inode, _uid: int) -> Iterable[Line]:
        return [Parent(inode.parent)]

    @staticmethod
    async def _front(inode: Inode, _uid: int) -> Iterable[Line]:
        front = inode.info.front if inode.info is not None else None
        if front is None or not isinstance(front.store, FrontFile):
            return [_Kind("none")]
        store = front.store
        return [Front(store.device, store.ino, front.size, store.path)]


def _require_owner(inode: Inode, caller: Caller) -> None:
    if caller.uid not in {0, inode.uid}:
        raise AnonfsError(errno.EPERM, "for root and the owner of the file")


def _set_kind(inode: Inode, value: bytes, caller: Caller) -> None:
    """Make a file private or frozen that nobody else can have: it has no name, and is empty.

    Private it is said once, and is true of the copies that are made for children. A frozen one can
    only be made a copy of another.
    """
    _require_owner(inode, caller)
    if inode.names:
        raise AnonfsError(errno.EPERM, "for files without a name")
    kind = value.strip().decode("ascii", "replace")
    if kind not in {_PRIVATE.kind, _FROZEN.kind}:
        raise AnonfsError(errno.EINVAL, "write 'private' or 'frozen'")
    check_empty(inode)
    inode.is_private, inode.is_frozen = kind == _PRIVATE.kind, kind == _FROZEN.kind


def _parsed_lock(value: bytes) -> Lock:
    """What ``value`` asks for. Raises AnonfsError: EINVAL."""
    try:
        return Lock.parse(value.decode("ascii"))
    except ValueError as error:
        raise AnonfsError(errno.EINVAL, str(error)) from error


def _parsed_reap(value: bytes, caller: Caller) -> Reap:
    """The policy that ``value`` asks for. Raises AnonfsError: EINVAL."""
    try:
        policy = Reap.parse(value.decode("ascii"))
        if policy.policy == "last-attach" and not policy.group:
            # 0 would be the daemon's own group.
            policy = Reap(policy.policy, os.getpgid(caller.pid or -1))
    except (ValueError, ProcessLookupError) as error:
        raise AnonfsError(errno.EINVAL, str(error)) from error
    return policy


def _areas(inode: Inode, uid: int) -> Iterator[Area]:
    """The ring as user ``uid`` may see it: addresses are for root and the process's owner."""
    for area in ShareRing(inode):
        known = uid in {0, area.uid}
        start, end = (area.start, area.end) if known else (None, None)
        how = "attached" if area.attached else "observed"
        yield Area(area.pid, start, end, area.offset, area.perms, how)
