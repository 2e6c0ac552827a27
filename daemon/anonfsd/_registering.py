"""Registering: the areas of a process, with the userfaultfd that is to report on them.

A process may say of any descriptor that it is its own, and of any area nothing at all: what there
is to register a look at /proc says, and whose the descriptor is its page tables do::

    look ──▶ register each shared area ──▶ proven? ──▶ look again ──▶ `AddressSpaces.attach`
      ▲                                                                  │ has it changed
      └──────────────────────────────────────────────────────────────────┘ meanwhile?

It waits for the lock of the address space, whose owner may wait for the daemon: it belongs to a
thread that does not hold the engine's lock.
"""

import contextlib
import errno
from collections.abc import Callable

from anonfs.errors import AnonfsError
from anonfs.vm import AddressSpace, AddressSpaces, ProcessMaps
from anonfsd._engine_lock import EngineLock
from anonfsd._userfaultfd import Span, register, shows_in, unregister
from anonfsd.procfs import scan

__all__ = ["Registrar"]

_TRIES = 5


class Registrar:
    """Registers areas of the mount with ``device`` (major, minor), and tells ``spaces`` of them."""

    def __init__(self, lock: EngineLock, spaces: AddressSpaces, device: tuple[int, int]) -> None:
        self._lock = lock
        self._spaces = spaces
        self._device = device

    def register(
        self, pid: int, descriptor: int, adopt: Callable[[AddressSpace], None] | None = None
    ) -> AddressSpace:
        """Register the shared areas of ``pid`` with a new descriptor, or one that is known.

        A new one must be proven to be its own. Of one that is known ``adopt`` is told, with the
        lock held, whose events it reports from then on.

        Raises:
            OSError: ESRCH, there is no process, or what is known is of an address space that it has
                left by exec; ENOENT, it maps nothing, in memory of its own; EPERM, the
                descriptor is not its own; EAGAIN, it changes too fast; what ``adopt`` raises.
        """
        for _ in range(_TRIES):
            spans = self._register_all(self._look(pid), descriptor)
            if not spans:
                number = errno.ENOENT if adopt is None else errno.ESRCH
                raise AnonfsError(number, f"process {pid} maps nothing")
            if adopt is None:
                _prove(descriptor, spans, pid)
            with self._lock:
                since = self._spaces.moment
            process = self._look(pid)
            with self._lock:
                space = self._spaces.attach(process, spans, since=since)
                if space is not None:
                    if adopt is not None:
                        adopt(space)
                    return space
        raise AnonfsError(errno.EAGAIN, f"process {pid} changes too fast")

    def _look(self, pid: int) -> ProcessMaps:
        for process in scan(self._device, [pid]):
            if process.shares_with:
                text = f"process {pid} has the memory of its parent {process.shares_with}"
                raise AnonfsError(errno.ENOENT, text)
            if process.exists and process.pid == pid:
                return process
        raise AnonfsError(errno.ESRCH, f"no process {pid}")

    def _register_all(self, process: ProcessMaps, descriptor: int) -> list[Span]:
        """The ranges that are registered, neighbours as one: the kernel may merge them too."""
        with self._lock:
            before = self._spaces.attached_spans(process.pid)
        spans: list[Span] = []
        for area in process.areas:
            span = area.start, area.end
            if not area.shared or (span not in before and not _registered(descriptor, span)):
                continue
            if spans and spans[-1][1] == area.start:
                span = spans.pop()[0], area.end
            spans.append(span)
        return spans


def _registered(descriptor: int, span: Span) -> bool:
    """Register a range; False where another descriptor has it, or it can never be written to."""
    try:
        register(descriptor, *span)
    except OSError as error:
        if error.errno not in {errno.EBUSY, errno.EINVAL, errno.ENOMEM, errno.EPERM}:
            raise
        return False
    return True


def _prove(descriptor: int, spans: list[Span], pid: int) -> None:
    """Require that ``descriptor`` is of the address space of ``pid``. Raises OSError: EPERM.

    Whose it is otherwise may have it open, and must not wait for a reader at each fork.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            if shows_in(descriptor, spans[0][0], [pid]):
                return
    unregister(descriptor, spans)
    raise AnonfsError(errno.EPERM, f"not the userfaultfd of process {pid}")
