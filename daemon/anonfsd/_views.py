"""Views: what each file of the tree shows, from the live state.

A view is looked at as a whole. `Look.state` stands for what was seen: it is another one when the
view would show something else, which is how a change is noticed without keeping count of changes
anywhere. Inodes are not held: one that is gone is answered with ESTALE, whoever has its number now.
"""

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import trio

from anonfs.errors import AnonfsError
from anonfs.limits import LimitInfo
from anonfs.meminfo import escaped, render_swaps
from anonfs.vfs import FileSystem, Inode, Quotas
from anonfsd._audience import Audience
from anonfsd._inspection import Inspection, Line
from anonfsd._meminfo import MemStats
from anonfsd._reach import names_of

__all__ = [
    "InodeView",
    "LimitsView",
    "Look",
    "MemInfoView",
    "NameView",
    "SwapsView",
    "TextView",
    "View",
]

_MANY = 1000
_RENDER_THREADS = 2


class Look(NamedTuple):
    """What a view showed at one moment."""

    text: bytes
    state: int


class View(Protocol):
    """What a file of the tree shows to a reader with user id ``uid``. Both raise AnonfsError."""

    async def look(self, uid: int) -> Look:
        """What it shows now."""

    async def state(self, uid: int) -> int:
        """The state alone, where that costs less."""


class MemInfoView:
    """``meminfo``. A change of what has to be looked up in /proc alone is no change of state."""

    def __init__(self, stats: MemStats, inspection: Inspection) -> None:
        self._stats = stats
        self._inspection = inspection

    async def look(self, uid: int) -> Look:
        """What the memory of the mount costs."""
        # The state first: what changes in between must not be missed by who waits for it.
        state = await self.state(uid)
        with self._inspection.long_request():
            info = await self._stats.look()
        return Look(_text([info.render()]), state)

    async def state(self, _uid: int) -> int:
        """All but who maps what, and what is dirty."""
        return hash(self._stats.now())


class TextView:
    """A line that never changes."""

    def __init__(self, line: str) -> None:
        self._line = line

    async def look(self, uid: int) -> Look:
        """The line."""
        return Look(_text([self._line]), await self.state(uid))

    async def state(self, _uid: int) -> int:
        """Always the same."""
        return 0


class SwapsView:
    """``swaps``."""

    def __init__(self, stats: MemStats) -> None:
        self._stats = stats

    async def look(self, uid: int) -> Look:
        """The swap areas."""
        return Look(_text(render_swaps(self._stats.swaps())), await self.state(uid))

    async def state(self, _uid: int) -> int:
        """Of the swap areas."""
        return hash(tuple(self._stats.swaps()))


class LimitsView:
    """``limits``. Root and the mount's owner see what everybody has, others what they have."""

    def __init__(self, quotas: Quotas, audience: Audience) -> None:
        self._quotas = quotas
        self._audience = audience

    async def look(self, uid: int) -> Look:
        """The limits, and the users that the reader may know of."""
        text = self._shown(uid).render()
        return Look(_text([text] if text else []), hash(text))

    async def state(self, uid: int) -> int:
        """Of them."""
        return (await self.look(uid)).state

    def _shown(self, uid: int) -> LimitInfo:
        users, trusted = self._quotas.users, self._audience.is_trusted(uid)
        return LimitInfo(self._quotas.limits, {u: users[u] for u in users if trusted or u == uid})


class InodeView:
    """The inspection attribute ``name`` of ``inode``, all of it."""

    _limiter = trio.CapacityLimiter(_RENDER_THREADS)

    def __init__(
        self, filesystem: FileSystem, inspection: Inspection, inode: Inode, name: bytes
    ) -> None:
        self._filesystem = filesystem
        self._inspection = inspection
        self._inode = inode
        self._name = name

    async def look(self, uid: int) -> Look:
        """The attribute."""
        lines = await self._lines(uid)
        if len(lines) < _MANY:
            return _rendered(lines)
        return await trio.to_thread.run_sync(_rendered, lines, limiter=self._limiter)

    async def state(self, uid: int) -> int:
        """Of the attribute."""
        return hash(tuple(await self._lines(uid)))

    async def _lines(self, uid: int) -> list[Line]:
        _require(self._filesystem, self._inode)
        lines = await self._inspection.lines(self._inode, self._name, uid)
        _require(self._filesystem, self._inode)
        return list(lines)


class NameView:
    """The names of ``inode``, one a line, those that the reader can get to."""

    def __init__(self, filesystem: FileSystem, inode: Inode) -> None:
        self._filesystem = filesystem
        self._inode = inode

    async def look(self, uid: int) -> Look:
        """The names, as paths in the mount."""
        _require(self._filesystem, self._inode)
        names = names_of(self._filesystem, self._inode.ino, uid)
        return Look(_text(escaped(os.fsdecode(name)) for name in names), hash(tuple(names)))

    async def state(self, uid: int) -> int:
        """Of the names."""
        return (await self.look(uid)).state


def _require(filesystem: FileSystem, inode: Inode) -> None:
    """Raises AnonfsError, ESTALE, unless ``inode`` is still there."""
    if filesystem.inodes.get(inode.ino) is not inode:
        raise AnonfsError(errno.ESTALE, f"inode {inode.ino} is gone")


def _rendered(lines: list[Line]) -> Look:
    return Look(_text(line.render() for line in lines), hash(tuple(lines)))


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
