"""Dup: what a fork does with the private mappings of a process, as the seed's ``dup`` would.

The kernel asks nobody at a fork, so the copies are made just before it, by `os.register_at_fork`::

    os.fork()
      before            for each mapping: a new inode without a name, a copy-on-write copy
      fork(2)           the child inherits the descriptors of the copies, and no mapping
      after, parent     closes them
      after, child      maps each where its parent has the original; closes that

The inode of a copy has no name, so whoever is killed, whenever, it goes with who has it open. The
mappings are never inherited (MADV_DONTFORK): a child that was not forked by Python, or whose
copy could not be made, has nothing at those addresses, rather than the memory of its parent.

A lock keeps mappings from being made, resized and closed meanwhile, and forks from each other. What
other threads store while os.fork() is under way may be missing in the child; what it has of an
inode is of one moment.
"""

import errno
import logging
import os
import threading
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from anonfs.client._addresses import Room
from anonfs.client._descriptor import close_descriptor

__all__ = ["Dups", "dups"]

log = logging.getLogger(__name__)


class Private(Protocol):
    """A mapping that forks copy."""

    closed: bool

    def copy_for_child(self, *, quiet: bool) -> int:
        """A descriptor of the copy; ``quiet`` where nobody stores meanwhile. Raises OSError."""

    def become(self, copy: "int | OSError") -> None:
        """In a child: be what was copied, or nothing, for that reason."""


class Dups:
    """The private mappings of this process; ``lock`` is held while they are changed."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.room = Room()
        self._mappings: WeakSet[Private] = WeakSet()
        self._copies: list[tuple[Private, int | OSError]] = []

    def add(self, mapping: Private) -> None:
        """Copy ``mapping`` at forks from now on, until it is closed; with the lock held."""
        self._mappings.add(mapping)

    def before_fork(self) -> None:
        """Make the copies."""
        self.lock.acquire()
        mappings = [mapping for mapping in self._mappings if not mapping.closed]
        quiet = bool(mappings) and _is_single_threaded()
        # A signal handler may raise in between: then the child has no copy of the rest.
        interrupted = OSError(errno.EINTR, os.strerror(errno.EINTR))
        self._copies = [(mapping, interrupted) for mapping in mappings]
        for number, mapping in enumerate(mappings):
            self._copies[number] = mapping, _copied(mapping, quiet=quiet)

    def after_in_parent(self) -> None:
        """The copies are the child's; or nobody's, if there is none."""
        copies, self._copies = self._copies, []
        self.lock.release()
        for _, copy in copies:
            if isinstance(copy, int):
                close_descriptor(copy)

    def after_in_child(self) -> None:
        """Put the copies in place."""
        copies, self._copies = self._copies, []
        # First of all, before much is allocated that might be put where they belong.
        for mapping, copy in copies:
            mapping.become(copy)
            if not isinstance(copy, int):
                self._mappings.discard(mapping)
        self.room.keep_in_child()
        self.lock = threading.RLock()  # others may have waited for the old one


def _copied(mapping: Private, *, quiet: bool) -> int | OSError:
    try:
        return mapping.copy_for_child(quiet=quiet)
    except OSError as error:
        log.error("a child does not get its copy of %r: %s", mapping, error)  # noqa: TRY400
        return error


def _is_single_threaded() -> bool:
    """Whether nobody but the caller can store to the memory of this process."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir()) == 1
    except OSError:
        return False


dups = Dups()
"""Those of this process."""

os.register_at_fork(
    before=dups.before_fork,
    after_in_parent=dups.after_in_parent,
    after_in_child=dups.after_in_child,
)
