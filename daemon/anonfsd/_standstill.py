"""A standstill: nobody can store to an inode, or see what is not ours, until it is over.

The kernel asks nobody when a page that it has loaded is stored to; it does ask for one that it has
not. So the pages are dropped from its page cache, run by run, and whoever touches one that is gone
waits in a READ that is not answered. When the last is gone we have every byte, of one moment::

    pages    dropped          current    ahead
             ├────────────────┼──────────┼────────────────────────┤
    READ     stopped          ?          answered, and ahead again where it takes more

The kernel waits for a page that is being read before it drops it, so a READ of pages that are ahead
has to be answered. One of the current run may be of a page that was dropped a moment ago, and be
stopped, or be what the kernel is waiting for: it is *undecided* until the run is dropped, and where
that takes long it is answered, and what it asked for is ahead again.

Everything here is called with the engine's lock held.
"""

from typing import NamedTuple, Protocol

from anonfs.mm import AnonInodeInfo

__all__ = ["Standstill", "StoppedRead", "Waiting"]

Run = tuple[int, int]
"""The first page and the number of pages."""

_LONGEST = 2048


class Waiting(Protocol):
    """Whoever waits for the answer to a request."""

    def reply(self, data: bytes | memoryview) -> None:
        """Answer it."""

    def reply_error(self, error: int) -> None:
        """Answer it with an errno."""


class StoppedRead(NamedTuple):
    """A READ of ``size`` bytes at ``offset`` that is answered later, in ``pages``."""

    ino: int
    offset: int
    size: int
    own: bool
    pages: Run
    waiting: Waiting


class Standstill:
    """The standstill of one inode at a time; ``info`` is whose, None while there is none."""

    def __init__(self) -> None:
        self.info: AnonInodeInfo | None = None
        self.current: Run | None = None
        self._ahead: list[Run] = []
        self._stopped: list[StoppedRead] = []
        self._undecided: list[StoppedRead] = []

    def begin(self, info: AnonInodeInfo, loaded: list[Run]) -> None:
        """Begin one of ``info``, whose pages in ``loaded`` are to be dropped, in this order."""
        self.info = info
        self._ahead = _joined(loaded)

    def next(self) -> Run | None:
        """The run before was dropped; the next one to drop, or None: nothing can change now."""
        self._stopped += self._undecided
        self._undecided = []
        self.current = self._ahead.pop(0) if self._ahead else None
        return self.current

    def stops(self, read: StoppedRead) -> bool:
        """Whether ``read``, of `info`, is answered by whoever ends this, or lets it go."""
        ahead = [run for run in self._ahead if _meet(run, read.pages)]
        if ahead:
            if not any(_covers(run, read.pages) for run in ahead):
                self._ahead.append(read.pages)
            return False
        undecided = self.current is not None and _meet(self.current, read.pages)
        (self._undecided if undecided else self._stopped).append(read)
        return True

    def let_go(self) -> list[StoppedRead]:
        """The current run takes long: these are to be answered, and dropped later."""
        found, self._undecided = self._undecided, []
        self._ahead += [read.pages for read in found]
        return found

    def end(self) -> list[StoppedRead]:
        """It is over; these are to be answered."""
        found = [*self._stopped, *self._undecided]
        self.info = self.current = None
        self._ahead, self._stopped, self._undecided = [], [], []
        return found


def _joined(runs: list[Run]) -> list[Run]:
    """``runs`` in order, neighbours made one as far as they should be dropped at once."""
    joined: list[Run] = []
    for first, count in sorted(runs):
        if joined and sum(joined[-1]) == first and joined[-1][1] + count <= _LONGEST:
            joined[-1] = joined[-1][0], joined[-1][1] + count
        else:
            joined.append((first, count))
    return joined


def _meet(one: Run, other: Run) -> bool:
    return one[0] < sum(other) and other[0] < sum(one)


def _covers(one: Run, other: Run) -> bool:
    return one[0] <= other[0] and sum(other) <= sum(one)
