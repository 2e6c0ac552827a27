"""Attachments: the processes whose areas the kernel reports on, and what it reports.

::

    a client ──userfaultfd──▶ attach: registered, proven, kept
    fork, munmap, mremap ───▶ the reading thread ──▶ AddressSpaces
         │   waits             holds the engine's lock from before it reads
         ◀── goes on ────────  until it has told: nobody can look in between
    a forked child ─────────▶ the resolving thread finds its pid, ``?`` until then; not at once,
                              or it would be in the way of the fork that it follows
    exit ──▶ its pidfd        the same reading thread
    exec ──▶ nobody           the next look finds the areas gone

It is the read that lets a forking process go on, and an event cannot be known before it is read.
So the lock is taken first: whoever inspects takes it too, and finds the children told of. Whoever
tells what a look has shown, which may be later than what waits to be read, reads that first.

A fork must not wait for ever. When the lock cannot be had in time what waits is read without it,
which lets the processes go on, and their areas are observed from then on. Nothing helps
while the whole daemon is stopped (SIGSTOP): its descriptors are open, and nobody reads them.

Closing and registering wait for the lock of an address space, whose owner may wait for the daemon:
neither is done with the engine's lock held.
"""

import contextlib
import errno
import logging
import os
import queue
import resource
import select
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from anonfs.errors import AnonfsError
from anonfs.vm import AddressSpace, AddressSpaces
from anonfsd._answers import Failing, errno_for
from anonfsd._closer import Closer
from anonfsd._engine_lock import EngineLock
from anonfsd._registering import Registrar
from anonfsd._resolving import find_child
from anonfsd._silencer import Silencer
from anonfsd._sparse import Sparse
from anonfsd._userfaultfd import (
    Fork,
    Remap,
    is_userfaultfd,
    prepare,
    read_events,
    shows_in,
)
from anonfsd.procfs import scan

__all__ = ["Attachments"]

log = logging.getLogger(__name__)
log.addFilter(Sparse())

_PATIENCE = 2.0
_IMPATIENCE = 0.05  # once it was in vain
_RESOLVE_TRIES = 40
_RESOLVE_PAUSE = 0.01
_SETTLE_SECONDS = 0.5
_SETTLE_PAUSE = 0.001
_PER_UID = 4096
_DESCRIPTORS = 2  # of an attachment: its userfaultfd and its pidfd
_SHARE = 4  # one user may have one part in so many of what the daemon can open


@dataclass(eq=False, slots=True)
class _Attachment:
    """A process, or a child to be; ``pidfd`` is -1 until it is known which."""

    descriptor: int
    space: AddressSpace
    uid: int
    parent: "_Attachment | None" = None
    pidfd: int = -1
    private: bool = False
    dropped: bool = False
    begun: float = field(default_factory=time.monotonic)


class Attachments:
    """Those of the mount with ``device`` (major, minor), told to ``spaces``.

    What nobody foresaw costs one attachment, and is told to ``failing``: a thread that ended here
    would leave processes waiting in their forks. ``on_observed`` is called by any thread when
    looks have to find out what becomes of areas that were attached. ``discard`` is called with the
    lock held, and given a descriptor that a user has sent in vain.
    """

    def __init__(
        self,
        lock: EngineLock,
        spaces: AddressSpaces,
        device: tuple[int, int],
        failing: Failing,
        on_observed: Callable[[], None],
        discard: Callable[[int, int], None],
    ) -> None:
        self._lock = lock
        self._failing = failing
        self._on_observed = on_observed
        self._discard = discard
        self._spaces = spaces
        spaces.catch_up = self._catch_up
        self._device = device
        self._registrar = Registrar(lock, spaces, device)
        self._epoll = select.epoll()
        self._kept: dict[int, _Attachment] = {}  # by either descriptor
        self._by_pid: dict[int, _Attachment] = {}
        self._beginning: set[int] = set()
        self._per_uid: Counter[int] = Counter()
        self._unresolved: queue.SimpleQueue[_Attachment] = queue.SimpleQueue()
        self._silencer = Silencer()
        self._closer = Closer("attachments-closer")
        self._given_up: set[_Attachment] = set()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limit = min(_PER_UID, most // _SHARE // _DESCRIPTORS)

    def start(self) -> None:
        """Start the threads, which end with the process."""
        self._closer.start()
        self._silencer.start()
        for serve in (self._read, self._resolve):
            name = f"attachments-{serve.__name__.strip('_')}"
            threading.Thread(target=serve, name=name, daemon=True).start()

    # -- attaching, in a thread that does not hold the lock --------------------------------

    def attach(self, pid: int, uid: int, descriptor: int | None) -> None:
        """Have the kernel report what process ``pid`` of ``uid`` does to its shared areas.

        Args:
            pid: who asks.
            uid: their user.
            descriptor: a userfaultfd of theirs, owned by this call; None if they have handed one
                over before, or the process that they were forked from has.

        Raises:
            OSError: ESRCH, no descriptor of theirs is known, or they are gone; EBUSY, another is;
                EPERM, it is not proven to be theirs; EMFILE, the user has too many; EINVAL, it is
                no new userfaultfd; EAGAIN, they change too fast.
        """
        if descriptor is None:
            self._extend(pid)
            return
        try:
            self._begin(pid, uid, descriptor)
        except BaseException:
            with self._lock:
                self._discard(descriptor, uid)
            raise

    def _extend(self, pid: int) -> None:
        known = self._of(pid)
        if known is None:
            self.settle()
            known = self._of(pid)
        if known is None:
            raise AnonfsError(errno.ESRCH, f"process {pid} is not attached")
        with self._lock:
            if known.dropped:
                raise AnonfsError(errno.ESRCH, f"process {pid} is not attached")
            descriptor = os.dup(known.descriptor)

        def adopt(space: AddressSpace) -> None:
            # That of before is forgotten where all that it had was unmapped.
            if known.dropped:
                self._spaces.detach(space)
                raise AnonfsError(errno.ESRCH, f"process {pid} is not attached")
            known.space = space

        try:
            self._registrar.register(pid, descriptor, adopt)
        finally:
            os.close(descriptor)

    def _begin(self, pid: int, uid: int, descriptor: int) -> None:
        if not is_userfaultfd(descriptor):
            raise AnonfsError(errno.EINVAL, "not a userfaultfd")
        # From here on the pid is of one process, if it is the one that is proven.
        pidfd = os.pidfd_open(pid)
        try:
            with self._beginning_alone(pid):
                self._make_room(pid, uid)
                prepare(descriptor)
                space = self._registrar.register(pid, descriptor)
                with self._lock:
                    # Events since the registration wait in the descriptor, and are read now.
                    attachment = _Attachment(descriptor, space, uid)
                    self._keep(attachment)
                    self._know(attachment, pid, pidfd)
        except BaseException:
            os.close(pidfd)
            raise

    @contextlib.contextmanager
    def _beginning_alone(self, pid: int) -> Iterator[None]:
        """Refuse a second descriptor meanwhile: each fork would be told of by both."""
        with self._lock:
            if pid in self._beginning:
                raise AnonfsError(errno.EBUSY, f"process {pid} is being attached")
            self._beginning.add(pid)
        try:
            yield
        finally:
            with self._lock:
                self._beginning.remove(pid)

    def _make_room(self, pid: int, uid: int) -> None:
        """Let go of a descriptor of an address space that ``pid`` has left by exec."""
        known = self._of(pid)
        if known is not None:
            if _is_alive(known):
                raise AnonfsError(errno.EBUSY, f"process {pid} is attached")
            with self._lock:
                self._drop(known)
        with self._lock:
            if self._per_uid[uid] >= self._limit:
                raise AnonfsError(errno.EMFILE, f"user {uid} has {self._limit} attachments")

    # -- bookkeeping, with the lock held ---------------------------------------------------

    def _of(self, pid: int) -> _Attachment | None:
        """The attachment of process ``pid``; takes the lock."""
        with self._lock:
            return self._by_pid.get(pid)

    def _keep(self, new: _Attachment) -> None:
        self._per_uid[new.uid] += 1
        self._watch(new.descriptor, new)

    def _know(self, attachment: _Attachment, pid: int, pidfd: int) -> None:
        """It is process ``pid``."""
        attachment.pidfd = pidfd
        self._by_pid[pid] = attachment
        self._watch(pidfd, attachment)

    def _watch(self, descriptor: int, attachment: _Attachment) -> None:
        self._kept[descriptor] = attachment
        self._epoll.register(descriptor, select.EPOLLIN)

    def _drop(self, attachment: _Attachment) -> None:
        """Let go of ``attachment``; what is left of its areas is observed."""
        if attachment.dropped:
            return
        attachment.dropped = True
        space = attachment.space
        spans = [(area.start, area.end) for area in space.areas if area.attached]
        self._spaces.detach(space)
        if spans:
            self._on_observed()
        self._per_uid[attachment.uid] -= 1
        self._forget(attachment.descriptor)
        if spans:
            self._silencer.silence(attachment.descriptor, spans, private=attachment.private)
        else:
            self._closer.close(attachment.descriptor)
        if attachment.pidfd >= 0:
            self._forget(attachment.pidfd)
            self._closer.close(attachment.pidfd)
            if space.pid is not None and self._by_pid.get(space.pid) is attachment:
                del self._by_pid[space.pid]

    def _forget(self, descriptor: int) -> None:
        del self._kept[descriptor]
        self._epoll.unregister(descriptor)

    def tend(self) -> None:
        """Let go of those who have no areas left: they have called exec, or unmapped all."""
        for attachment in set(self._kept.values()):
            if not attachment.space:
                self._drop(attachment)

    # -- the reading thread ----------------------------------------------------------------

    def _read(self) -> None:
        while True:
            events = self._epoll.poll(_IMPATIENCE if self._given_up else None)
            ready = [descriptor for descriptor, _ in events]
            with self._lock.within(_IMPATIENCE if self._given_up else _PATIENCE) as held:
                if held:
                    while self._given_up:
                        self._drop(self._given_up.pop())
                    self._take_all(ready)
                else:
                    self._give_up(ready)

    def _catch_up(self) -> None:
        """Tell what is reported by now; in whatever thread holds the lock."""
        if self._kept:
            self._take_all([descriptor for descriptor, _ in self._epoll.poll(0, len(self._kept))])

    def _take_all(self, ready: list[int]) -> None:
        for descriptor in ready:
            attachment = self._kept.get(descriptor)
            if attachment is None:
                continue
            try:
                self._take_one(attachment, descriptor)
            except Exception as error:  # noqa: BLE001  nobody else would hear of it
                errno_for(self._failing, "attachments", error)
                self._drop(attachment)

    def _take_one(self, attachment: _Attachment, descriptor: int) -> None:
        if descriptor == attachment.pidfd:
            self._spaces.end(attachment.space)
            self._drop(attachment)
            # Whoever shares the memory goes on with it, unreported.
            self._on_observed()
        else:
            self._take(attachment)

    def _take(self, attachment: _Attachment) -> None:
        try:
            events = read_events(attachment.descriptor, private=attachment.private)
        except OSError as error:
            log.warning("%r is observed from now on: %s", attachment.space, error.strerror)
            self._drop(attachment)
            return
        for event in events:
            if isinstance(event, Fork):
                self._forked(attachment, event.descriptor)
            elif isinstance(event, Remap):
                self._spaces.remap(attachment.space, event.start, event.to, event.length)
            else:
                self._spaces.unmap(attachment.space, event.start, event.end)

    def _forked(self, parent: _Attachment, descriptor: int) -> None:
        if self._per_uid[parent.uid] >= self._limit:
            log.warning("a child of %r is observed: too many of user %d", parent.space, parent.uid)
            self._closer.close(descriptor)
            self._on_observed()
            return
        space = self._spaces.fork(parent.space)
        if not space:
            self._closer.close(descriptor)
            return
        child = _Attachment(descriptor, space, parent.uid, parent, private=True)
        self._keep(child)
        self._unresolved.put(child)

    def _give_up(self, ready: list[int]) -> None:
        """Let those go on who wait, without the lock: what they did is for looks to find out.

        From now on they are only let go on, until there is the lock to drop them with.
        """
        before = len(self._given_up)
        for descriptor in ready:
            attachment = self._kept.get(descriptor)
            if attachment is None or descriptor == attachment.pidfd:
                continue
            self._given_up.add(attachment)
            with contextlib.suppress(OSError):  # there is no address space any more
                for event in read_events(descriptor, private=attachment.private):
                    if isinstance(event, Fork):
                        self._closer.close(event.descriptor)
        slow = len(self._given_up) - before
        if slow:
            log.warning("too slow to read what %d processes report: they are observed", slow)

    # -- the resolving thread --------------------------------------------------------------

    def _resolve(self) -> None:
        while True:
            child = self._unresolved.get()
            time.sleep(max(0.0, child.begun + _RESOLVE_PAUSE - time.monotonic()))
            try:
                self._resolve_one(child)
            except Exception as error:  # noqa: BLE001  as where events are read
                errno_for(self._failing, "attachments", error)
                with self._lock:
                    self._drop(child)

    def _resolve_one(self, child: _Attachment) -> None:
        for _ in range(_RESOLVE_TRIES):
            if self._resolved(child):
                return
            time.sleep(_RESOLVE_PAUSE)
        with self._lock:
            if not child.dropped:
                log.warning("%r is not found among the processes", child.space)
                self._drop(child)

    def _resolved(self, child: _Attachment) -> bool:
        """Whether nothing is left to be done for ``child``."""
        with self._lock:
            areas = [area for area in child.space.areas if area.attached]
            if child.dropped or not areas:
                self._drop(child)
                return True
            parent = child.parent.space.pid if child.parent is not None else None
            others = frozenset(self._by_pid)
            descriptor = os.dup(child.descriptor)
        try:
            pid, pidfd = find_child(descriptor, areas[0].start, parent, others)
        except ProcessLookupError:
            with self._lock:
                self._spaces.end(child.space)
                self._drop(child)
            return True
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.ENOENT}:
                raise
            return False  # it has changed since, or an event of it has to be read first
        finally:
            os.close(descriptor)
        return pid is not None and self._settled(child, pid, pidfd)

    def _settled(self, child: _Attachment, pid: int, pidfd: int) -> bool:
        process = next(iter(scan(self._device, [pid])), None)
        with self._lock:
            if child.dropped or process is None or not process.exists:
                self._closer.close(pidfd)
                return child.dropped
            self._spaces.resolve(child.space, process)
            child.parent = None
            self._know(child, pid, pidfd)
        return True

    def settle(self) -> None:
        """Wait until every child is resolved that there is now, but not for long."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        with self._lock:
            waiting = self._spaces.unresolved
        while waiting and time.monotonic() < deadline:
            time.sleep(_SETTLE_PAUSE)
            with self._lock:
                waiting = [space for space in waiting if space in self._spaces.unresolved]


def _is_alive(attachment: _Attachment) -> bool:
    """Whether the address space that it reports on still is that of a process."""
    areas = attachment.space.areas
    if not areas:
        return False
    try:
        shows_in(attachment.descriptor, areas[0].start, [])
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
