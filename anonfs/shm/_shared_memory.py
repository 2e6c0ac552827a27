"""A segment with a name: the standard library's `SharedMemory`, as a file of an anonfs.

The names, the exceptions and their texts are those of the standard class, which it is a subclass
of. What is behind them is a `Mapping`::

    SharedMemory ── buf: memoryview ──▶ Mapping ──▶ MOUNT/NAME
         │                                 ▲
      resize()                     views and arrays that were made of buf

Sizes are changed and looked at under a lock of the file, `File.size_locked`: who opens a segment
while it is made, or made smaller, waits. So nobody who keeps to this class has a page mapped beyond
the end of the file, which would be SIGBUS. What there is no room for is refused while it is only a
size.

Nobody counts the users of a segment here, and there is no resource tracker: the daemon knows them
and reaps, if it was asked to.
"""

import contextlib
import os
import stat
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import shared_memory
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from anonfs.client import File, Mapping, areas, clone_into, connect, page_counts, reap_policy
from anonfs.client import attach as attach_mappings
from anonfs.client import reap as set_reap
from anonfs.inspection import Area, PageCounts
from anonfs.shm._names import errors_about, file_name, no_room
from anonfs.shm._opening import Opening
from anonfs.shm._uses import check_no_views, check_nobody_maps_beyond

__all__ = ["SharedMemory"]


class SharedMemory(shared_memory.SharedMemory):
    """Shared memory that processes find by its name, on an anonfs.

    Args:
        name: the name; None makes one up, for a new segment.
        create: whether to make it; else it must exist.
        size: bytes of a new segment; ignored for one that exists.
        track: ignored, there is no resource tracker.
        exist_ok: with ``create``, whether one that exists will do, with the size that it has.
        reap: when the segment is to go by itself, see `reap`; None leaves that as it is.
        attach: whether the kernel reports forks and unmaps to the daemon, as for `Client.map`.
        mount: the mount, as for `anonfs.client.connect`.

    Raises:
        FileExistsError, FileNotFoundError, ValueError: as the standard class.
        OSError: ENOSPC, there is no room for ``size``; EINVAL, no such name is possible.
        NoMountError, DaemonGoneError: as `anonfs.client.connect`.
    """

    _name: str | None = None
    _flags = os.O_RDWR
    _mode = 0o600
    _mapping: Mapping | None = None
    _buf: memoryview | None = None

    def __init__(
        self,
        name: str | None = None,
        create: bool = False,
        size: int = 0,
        *,
        track: bool = False,
        exist_ok: bool = False,
        reap: str | None = None,
        attach: bool = True,
        mount: str | os.PathLike[str] | None = None,
    ) -> None:
        del track
        opening = self._opening(name, create, size, exist_ok)
        self._fs = connect(mount)
        self._attach = attach
        self._given: dict[str, Any] = {} if attach else {"attach": False}
        if mount is not None:
            self._given["mount"] = mount
        file, self._name, is_new = opening.open(self._fs)
        try:
            with file, errors_about(self._name):
                self._mapping = self._mapped(file, size if create else 0, is_new, reap)
        except BaseException:
            if is_new:
                with contextlib.suppress(FileNotFoundError):
                    self.unlink()
            raise
        self._size = len(self._mapping)
        self._alone = sys.getrefcount(self._mapping)
        self._buf = memoryview(self._mapping)

    def _opening(self, name: str | None, create: bool, size: int, exist_ok: bool) -> Opening:
        """How to open it. Raises ValueError: as the standard class."""
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        flags = self._flags
        if create:
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        return Opening(name, flags, self._mode, exist_ok)

    def _mapped(self, file: File, size: int, is_new: bool, policy: str | None) -> Mapping:
        """All of the file, which gets a size if it has none."""
        with file.size_locked():
            if policy is not None:
                file.reap = policy
            found = file.size
            if size and (is_new or not found):
                # If it is longer somebody else was faster, and has mapped that much.
                found = max(found, size)
                with no_room(self._slashed, size, self._fs):
                    file.resize(found)
            if not found:
                raise ValueError("cannot mmap an empty file")
            mapping = file.map(found, attach=False)
        if self._attach:
            attach_mappings(file.fileno())
        return mapping

    @property
    def _slashed(self) -> str:
        """The name in errors."""
        return self._name or ""

    @property
    def name(self) -> str:
        """The name by which other processes find it."""
        return self._slashed.removeprefix("/")

    @property
    def path(self) -> Path:
        """The file that it is, or was until it was unlinked."""
        return self._fs.path(file_name(self._slashed))

    @property
    def size(self) -> int:
        """The size in bytes, as it is mapped."""
        return self._size

    @property
    def buf(self) -> memoryview:
        """Its memory, until `close`; None then. `resize` makes a new one."""
        return cast("memoryview", self._buf)

    def fileno(self) -> int:
        """The descriptor of its file, valid until `close`.

        Raises:
            ValueError: it is closed.
        """
        return self._held().fileno()

    def _held(self) -> Mapping:
        if self._mapping is None:
            raise ValueError("shared memory is closed")
        return self._mapping

    def resize(self, size: int | None = None) -> None:
        """Make the segment ``size`` bytes long; without a size, map it as long as it is by now.

        Every other process goes on with the memory that it has mapped. It sees the new size when it
        opens the segment anew, or calls ``resize()``. To make it shorter than somebody has it
        mapped is refused, since a store beyond the end would be SIGBUS.

        `buf` is another one afterwards.

        Raises:
            BufferError: `buf`, or a view or an array of it, is in use; or somebody else maps what
                would be cut off, or may do so. Nothing has changed then.
            OSError: ENOSPC, there is no room for it. Nothing has changed then.
            ValueError: ``size`` is not positive, or the segment is closed or empty.
        """
        if size is not None and size <= 0:
            raise ValueError("'size' must be a positive number different from zero")
        with errors_about(self._slashed), self._reopened() as file, file.size_locked():
            wanted = file.size if size is None else size
            if not wanted:
                raise ValueError("cannot mmap an empty file")
            if wanted < file.size:
                check_nobody_maps_beyond(self._held(), wanted)
            with no_room(self._slashed, wanted, self._fs), self._without_buf():
                self._held().resize(wanted)
            self._size = wanted
        if self._attach:
            attach_mappings(self.fileno())

    def _reopened(self) -> File:
        """The file, opened anew: a child that was forked has a lock of its own then."""
        path = f"/proc/self/fd/{self.fileno()}"
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return File(descriptor, self.path, self.name, read_only=False)

    @contextlib.contextmanager
    def _without_buf(self) -> Iterator[None]:
        """Have no view of the mapping. Raises BufferError: somebody else has one, or an array."""
        view = weakref.ref(self.buf)
        self._buf = None
        self._buf = view()
        if self._buf is not None:
            raise BufferError("buf is in use: existing memory cannot be re-sized")
        try:
            if sys.getrefcount(self._mapping) > self._alone:
                raise BufferError("views or arrays are in use: existing memory cannot be re-sized")
            yield
        finally:
            self._buf = memoryview(self._held())

    def snapshot(self, name: str | None = None, *, reap: str | None = None) -> Self:
        """A copy of the segment, as a new one of that name, which appears when it is whole.

        All its pages are as they were at one moment of the call: whoever stores to the segment
        meanwhile is kept waiting. None is copied until one side stores to it.

        Raises:
            FileExistsError: there is a segment of that name.
            OSError: ENOSPC, there is no room for a copy.
        """
        source = self._held()
        file, made_up, _ = self._opening(None, True, self.size, False).open(self._fs)
        try:
            with file, errors_about(made_up):
                if reap is not None:
                    file.reap = reap
                os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(source.fileno()).st_mode))
                with no_room(made_up, self.size, self._fs):
                    clone_into(source.fileno(), file.fileno())
            made = type(self)(made_up.removeprefix("/"), **self._given)
            if name is not None:
                made._rename("/" + name)  # noqa: SLF001  of this class
        except BaseException:
            self._fs.path(file_name(made_up)).unlink(missing_ok=True)
            raise
        return made

    def _rename(self, name: str) -> None:
        """Take a name that nobody has."""
        with errors_about(name):
            self._fs.path(file_name(name)).hardlink_to(self.path)
        self.unlink()
        self._name = name

    def holders(self) -> dict[int | None, list[Area]]:
        """Who has it mapped: the vm areas of each process, by pid, as the ring has them.

        The pid None is that of a forked child that is not found yet. See `anonfs.client.inspect`.
        """
        found: dict[int | None, list[Area]] = {}
        for area in areas(self.fileno())[0]:
            found.setdefault(area.pid, []).append(area)
        return found

    def stats(self) -> PageCounts:
        """How many of its pages are in core, on swap, or not there yet.

        A page that was just stored to counts once the kernel has written it back to the daemon.
        """
        return page_counts(self.fileno())

    @property
    def reap(self) -> str:
        """When the segment goes by itself: ``never``, ``last-area`` or ``last-attach [PGID]``.

        See `anonfs.client.reap`. What was never mapped stays.
        """
        return reap_policy(self.fileno()).render()

    @reap.setter
    def reap(self, policy: str) -> None:
        set_reap(self.fileno(), policy)

    def close(self) -> None:
        """Unmap it in this process; closing again does nothing.

        An array that was made by ``numpy.ndarray(buffer=buf)`` keeps the memory until it is gone.

        Raises:
            BufferError: there are views of `buf`, or arrays that export it.
        """
        if self._mapping is None:
            return
        self.buf.release()
        self._buf = None
        try:
            # Not its close(): numpy.ndarray(buffer=buf) has the address, and a reference alone.
            check_no_views(self._mapping)
        except BufferError:
            self._buf = memoryview(self._mapping)
            raise
        self._mapping = None

    def unlink(self) -> None:
        """Take its name away; who has it mapped keeps it.

        Raises:
            FileNotFoundError: it has none any more.
        """
        if self._name:
            with errors_about(self._name):
                self._fs.unlink(file_name(self._name))

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[str, bool, int]]:
        """By its name: who gets it opens it."""
        opener = partial(type(self), **self._given) if self._given else type(self)
        return opener, (self.name, False, self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """Leave it to the mapping: that goes with the last view or array of it, and not before."""
