"""ChangedProcesses: whom the rings have to look at, because of what became of them.

Of all the events of a machine, few matter: those of processes that have areas, that are about to be
looked at, or that opened a file of the mount and so may have mapped it since::

    FORK parent child ── parent matters? ──▶ parent, child ─┐
    EXEC pid ─────────── pid matters? ─────▶ pid ───────────┼──▶ in the order in which they
    EXIT pid pid ─────── pid matters? ─────▶ pid ───────────┤    came, each once ──▶ taken
    EXIT thread pid ──── its first thread ─▶ pid ───────────┘
                         has ended before?

That the first thread has ended does not say that the process has: the others may live on, or one
of them may be calling exec. So an exit is a reason to look, as everything here is; from then on the
exits of its other threads are, too. A child of a process that waits to be looked at may have areas
like its parent, and is taken after it. What happens to a process after it was taken makes it wait
anew, so nothing is lost between an event and a look.

Where the kernel reports what becomes of all areas of a process (it is exact), its forks and its end
are no reasons: a look would find nothing, and be in the way of the next fork. Its exec is one, for
no event tells of that.

A process that opened a file may hand the descriptor on, or its child may map it: no event tells of
that, and the background pass finds it.

It must not know how the looks are made. It belongs to the event loop.
"""

from collections.abc import Callable

import trio

__all__ = ["ChangedProcesses"]


class ChangedProcesses:
    """A `ProcessListener`.

    Args:
        has_areas: which processes are known to have any.
        is_exact: of which all of them are reported.
    """

    def __init__(self, has_areas: Callable[[int], bool], is_exact: Callable[[int], bool]) -> None:
        self._has_areas = has_areas
        self._is_exact = is_exact
        self._waiting: dict[int, None] = {}
        self._taken: frozenset[int] = frozenset()
        self._leaderless: set[int] = set()
        self._anything = False
        self._some = trio.Event()
        self.openers: set[int] = set()
        """Those who opened a file of the mount: threads, and processes as far as known."""

    def _matters(self, pid: int) -> bool:
        if pid in self._waiting or pid in self._taken:
            return True
        return self._may_have_areas(pid) and not self._is_exact(pid)

    def _may_have_areas(self, pid: int) -> bool:
        return self._has_areas(pid) or pid in self.openers

    @property
    def some(self) -> bool:
        """Whether anybody is to be looked at."""
        return self._some.is_set()

    def add(self, pid: int) -> None:
        """Have ``pid``, a process or one of its threads, looked at."""
        self._waiting[pid] = None
        self._some.set()

    # -- what the connector calls ----------------------------------------------------------

    def forked(self, parent: int, child: int) -> None:
        """A new process: it has what its parent had."""
        if self._matters(parent):
            self.add(parent)
            self.add(child)

    def execed(self, pid: int) -> None:
        """The memory of ``pid`` is a new one, and it has one thread."""
        self._leaderless.discard(pid)
        if self._matters(pid) or self._may_have_areas(pid):
            self.add(pid)

    def exited(self, thread: int, pid: int) -> None:
        """A thread has ended, and maybe the process."""
        if thread == pid:
            if self._matters(pid):
                self._leaderless.add(pid)
                self.add(pid)
        elif pid in self._leaderless:
            self.add(pid)
        self.openers.discard(thread)

    def lost(self) -> None:
        """Whatever happened, only a look at everything shows it."""
        self._anything = True
        self._some.set()

    # -- what the one who looks calls ------------------------------------------------------

    async def wait(self) -> None:
        """Until somebody is to be looked at."""
        await self._some.wait()

    def take(self, most: int) -> list[int]:
        """The next ``most`` to be looked at; `done` has to follow."""
        pids = [pid for pid, _ in zip(self._waiting, range(most), strict=False)]
        for pid in pids:
            del self._waiting[pid]
        self._taken = frozenset(pids)
        return pids

    def take_all(self) -> bool:
        """Whether everybody is to be looked at, since events were lost; `done` has to follow."""
        anything, self._anything = self._anything, False
        return anything

    def done(self) -> None:
        """The look at those who were taken has ended, one way or another."""
        gone = {pid for pid in self._taken & self._leaderless if not self._has_areas(pid)}
        self._leaderless -= gone - self._waiting.keys()
        self._taken = frozenset()
        if not self._waiting and not self._anything:
            self._some = trio.Event()
