"""Quotas: what the files of a mount, and those of each user, may come to.

What counts is the size of a file, in whole pages, whether they exist or not and whether the mount
overcommits or not: so what exceeds a limit fails where a file is made or gets its size, and never
later, at a store to a mapping. A file counts until it is deleted, for whom it belongs to, whoever
made it larger::

    make ──▶ files + 1 of the owner           truncate, write ──▶ pages of the owner, of all
    chown ─▶ all of it to the new owner       lock ──▶ locked pages of the owner

Beyond a user's limit is EDQUOT, beyond that of the mount or of one file ENOSPC. Some users are
exempt, as those with CAP_SYS_RESOURCE are elsewhere; what they have is counted all the same. It is
the owner who is exempt, not the caller: the write-back of a mapping has none.
"""

import errno
from collections.abc import Container, Iterator
from contextlib import contextmanager

from anonfs.errors import AnonfsError, require
from anonfs.limits import Limits, Usage
from anonfs.units import PAGE_SHIFT

__all__ = ["Quotas"]

_NOTHING = Usage()


class Quotas:
    """Who uses how much, by user id, and within which ``limits``; ``pages`` are those of all."""

    def __init__(self, limits: Limits, exempt: Container[int]) -> None:
        self.limits = limits
        self.pages = 0
        self.users: dict[int, Usage] = {}
        self._exempt = exempt
        self._size = _pages(limits.size)
        self._segment = _pages(limits.segment)
        self._most = (
            ("pages", _pages(limits.per_user)),
            ("files", limits.files_per_user),
            ("locked", _pages(limits.locked_per_user)),
        )

    @property
    def size(self) -> int | None:
        """What all files may come to, in pages; None: anything."""
        return self._size

    def check_file(self, pages: int) -> None:
        """Whether one file may have so many pages. Raises AnonfsError: ENOSPC."""
        if self._segment is not None and pages > self._segment:
            raise AnonfsError(errno.ENOSPC, f"a file may have {self._segment} pages, not {pages}")

    @contextmanager
    def charging(self, uid: int, more: Usage) -> Iterator[None]:
        """User ``uid`` uses ``more``, unless the body fails.

        Raises:
            AnonfsError: EDQUOT, that exceeds a limit of the user; ENOSPC, that of the mount;
                nothing was changed.
        """
        after = self._within(uid, more)
        if more.pages and self._size is not None and self.pages + more.pages > self._size:
            left = self._size - self.pages
            raise AnonfsError(errno.ENOSPC, f"{more.pages} pages asked for, {left} left of --size")
        self.users[uid] = after
        self.pages += more.pages
        try:
            yield
        except BaseException:
            self.refund(uid, more)
            raise

    def _within(self, uid: int, more: Usage) -> Usage:
        """What ``uid`` uses with ``more``. Raises AnonfsError: EDQUOT."""
        after = self.users.get(uid, _NOTHING).plus(more)
        for name, most in self._most if uid not in self._exempt else ():
            if most is not None and getattr(more, name) and getattr(after, name) > most:
                detail = f"user {uid} may have {most} {name}, not {getattr(after, name)}"
                raise AnonfsError(errno.EDQUOT, detail)
        return after

    def refund(self, uid: int, less: Usage) -> None:
        """User ``uid`` uses ``less``."""
        self.pages -= less.pages
        after = self.users[uid].minus(less)
        self.users[uid] = after
        if after == _NOTHING:
            del self.users[uid]

    def transfer(self, uid: int, other: int, what: Usage) -> None:
        """What ``uid`` used ``other`` uses now. Raises AnonfsError: EDQUOT; nothing was changed."""
        if uid != other:
            self.users[other] = self._within(other, what)
            self.pages += what.pages
            self.refund(uid, what)

    def check_invariants(self, users: dict[int, Usage]) -> None:
        """``users`` is what was counted anew."""
        require(users == self.users, f"{self.users} used, {users} counted")
        pages = sum(used.pages for used in users.values())
        require(pages == self.pages, f"{self.pages} pages in all files, {pages} counted")


def _pages(size: int | None) -> int | None:
    return None if size is None else size >> PAGE_SHIFT
