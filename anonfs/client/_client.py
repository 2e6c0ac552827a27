"""The connection to one mount: names in, files and mappings out.

A client holds no descriptor of the mount, so it never keeps one from being unmounted. It
remembers the device of the directory instead, and refuses to go on when that has changed: after
an unmount the same path is a directory of some disk, and memory must not end up there.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anonfs.client._choice import find_mount
from anonfs.client._clone import clone
from anonfs.client._errors import NoMountError, explained
from anonfs.client._file import File
from anonfs.client._inspect import Inspection, Target, inspect, lock, reap, swap_out, unlock
from anonfs.client._mapping import Mapping
from anonfs.client._nameless import open_nameless
from anonfs.client._names import split_name
from anonfs.client._overlay import make_overlay, opened
from anonfs.client._private import PrivateMemory
from anonfs.client._tree import limits, meminfo
from anonfs.client._watch import Callback, Watch, watch
from anonfs.limits import LimitInfo
from anonfs.meminfo import MemInfo

__all__ = ["Client", "Entry", "connect", "private"]

Name = str | os.PathLike[str]
"""A path relative to the mount, with no ``..`` in it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory: ``name`` is relative to the mount, ``size`` is in bytes."""

    name: str
    size: int
    is_directory: bool


def connect(mount: str | os.PathLike[str] | None = None) -> "Client":
    """A client of the anonfs at ``mount``, or of the one that `find_mount` finds.

    Raises:
        NoMountError: there is none, or there are several and nothing says which.
        DaemonGoneError: the mount is there but its daemon is not.
    """
    return Client(find_mount(mount))


def private(size: int, mount: str | os.PathLike[str] | None = None) -> PrivateMemory:
    """Memory of this process alone, of which each child gets a copy; ``mount`` as for `connect`.

    Raises:
        OSError: ENOSPC, EDQUOT, that much cannot be promised; and as `connect`.
    """
    return connect(mount).private(size)


class Client:
    """The files below one directory of an anonfs; made by `connect`.

    Attributes:
        mount: the directory that names are relative to.
    """

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self._device = mount.stat().st_dev

    def path(self, name: Name) -> Path:
        """The absolute path of ``name``, which need not exist.

        Raises:
            BadNameError: ``name`` is not a path that stays inside the mount.
        """
        return self.mount.joinpath(*split_name(name))

    def create(self, name: Name, size: int, *, mode: int = 0o600, reap: str | None = None) -> File:
        """A new file of ``size`` bytes; its directories must exist.

        Nothing is allocated before the first write to a page. For ``reap`` see `reap`.

        Raises:
            FileExistsError: there is one already.
            OSError: ENOSPC when that much cannot be promised; the name is gone again then.
        """
        file = self._open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            file.resize(size)
            if reap is not None:
                file.reap = reap
        except BaseException:
            file.close()
            self.unlink(name)
            raise
        return file

    def open(
        self, name: Name, *, read_only: bool = False, flags: int = 0, mode: int = 0o600
    ) -> File:
        """The file ``name``, which must exist unless ``flags`` has O_CREAT.

        ``flags`` are further ones of open(2): O_CREAT (with ``mode``), O_EXCL, O_NOFOLLOW.
        """
        return self._open(name, (os.O_RDONLY if read_only else os.O_RDWR) | flags, mode)

    def map(
        self,
        name: Name,
        size: int | None = None,
        *,
        offset: int = 0,
        read_only: bool = False,
        mode: int = 0o600,
        attach: bool = True,
    ) -> Mapping:
        """Map the file ``name``: the call that processes meet with.

        With a ``size`` every process may make the same call, and whoever comes first creates the
        file (with ``mode``). The mapping is ``size`` bytes from ``offset``; a file that is
        shorter grows to hold it, one that is longer keeps its length. Without a size the file
        must exist, and all of it is mapped. Read-only mappings neither create nor grow. For
        ``attach`` see `File.map`.

        Raises:
            FileNotFoundError: no such file, and no size to create it with.
            ClientError: the file is empty and no size is given, or is too short to be read.
            OSError: ENOSPC when that much cannot be promised.
        """
        with self._open_or_create(name, size, read_only, mode) as file:
            return file.map(size, offset=offset, attach=attach)

    def anonymous(self, size: int, *, attach: bool = True) -> Mapping:
        """Nameless shared memory of ``size`` bytes, for this process and its children.

        It is freed with the last mapping and descriptor. For ``attach`` see `File.map`.
        """
        with explained(self.mount), self._opened_directory(self.mount) as directory:
            descriptor = open_nameless(directory)
        with File(descriptor, self.mount, None, read_only=False) as file:
            return file.map(size, attach=attach)

    def private(self, size: int) -> PrivateMemory:
        """Memory of this process alone, of which each child gets a copy, see `PrivateMemory`."""
        with explained(self.mount), self._opened_directory(self.mount) as directory:
            return PrivateMemory(directory, size)

    def private_file(self, path: Target, writable: bool = True) -> PrivateMemory | Mapping:
        """Map a file in private, see `anonfs.client.private_file`; ``path`` is no name here."""
        with opened(path) as front, self._opened_directory(self.mount) as directory:
            if writable:
                return PrivateMemory.over(directory, front)
            # Where nobody stores, to share is to be private.
            with File(open_nameless(directory), self.mount, None, read_only=True) as file:
                make_overlay(file.fileno(), front)
                return file.map()

    def unlink(self, name: Name) -> None:
        """Remove ``name``; those who have the file open or mapped keep it."""
        with explained(self.path(name)), self._directory_of(name) as directory:
            os.unlink(split_name(name)[-1], dir_fd=directory)

    def list(self, directory: Name | None = None) -> list[Entry]:
        """What is in ``directory``, by default in the mount's own, in order of name."""
        where = self.mount if directory is None else self.path(directory)
        with explained(where):
            self._require_device(where.stat())
            with os.scandir(where) as entries:
                found = [entry for item in entries if (entry := self._entry(item))]
        return sorted(found, key=lambda entry: entry.name)

    def inspect(self, target: Target) -> Inspection:
        """The state of an inode, see `anonfs.client.inspect`; relative paths are names."""
        return inspect(self._target(target))

    def swap_out(self, target: Target, first: int | None = None, last: int | None = None) -> None:
        """Write pages to swap, see `anonfs.client.swap_out`; relative paths are names."""
        swap_out(self._target(target), first, last)

    def lock(self, target: Target) -> None:
        """Keep pages in core, see `anonfs.client.lock`; relative paths are names."""
        lock(self._target(target))

    def unlock(self, target: Target) -> None:
        """End `lock`."""
        unlock(self._target(target))

    def reap(self, target: Target, policy: str) -> None:
        """Decide when a file goes by itself, see `anonfs.client.reap`; relative paths are names."""
        reap(self._target(target), policy)

    def clone(self, source: Target, name: Name, *, lazy: bool = False) -> None:
        """A copy-on-write copy, see `anonfs.client.clone`; relative paths are names."""
        self._require_device(self.mount.stat())
        clone(self._target(source), self.path(name), lazy=lazy)

    def meminfo(self) -> MemInfo:
        """What the memory of the mount costs, see `anonfs.client.meminfo`."""
        self._require_device(self.mount.stat())
        return meminfo(self.mount)

    def limits(self) -> LimitInfo:
        """What files may come to, see `anonfs.client.limits`."""
        self._require_device(self.mount.stat())
        return limits(self.mount)

    def watch(
        self,
        target: Target | None = None,
        callback: Callback | None = None,
        *,
        past: bool = False,
        timeout: float | None = None,
    ) -> Watch:
        """Follow what happens, see `anonfs.client.watch`; relative paths are names."""
        self._require_device(self.mount.stat())
        found = None if target is None else self._target(target)
        return watch(found, callback, past=past, timeout=timeout, mount=self.mount)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.mount)!r}>"

    def _target(self, target: Target) -> Target:
        if isinstance(target, str | os.PathLike) and not Path(target).is_absolute():
            return self.path(target)
        return target

    def _entry(self, item: os.DirEntry[str]) -> Entry | None:
        try:
            status = item.stat(follow_symlinks=False)
        except FileNotFoundError:  # unlinked since the directory was read
            return None
        name = str(Path(item.path).relative_to(self.mount))
        return Entry(name, status.st_size, stat.S_ISDIR(status.st_mode))

    def _open(self, name: Name, flags: int, mode: int = 0) -> File:
        path = self.path(name)
        with explained(path), self._directory_of(name) as directory:
            descriptor = os.open(path.name, flags | os.O_CLOEXEC, mode, dir_fd=directory)
            try:
                self._require_device(os.fstat(descriptor))
            except BaseException:
                os.close(descriptor)
                raise
        read_only = flags & os.O_ACCMODE == os.O_RDONLY
        return File(descriptor, path, os.fspath(name), read_only=read_only)

    def _open_or_create(self, name: Name, size: int | None, read_only: bool, mode: int) -> File:
        try:
            return self.open(name, read_only=read_only)
        except FileNotFoundError:
            if size is None or read_only:
                raise
        # Someone else may be first now; a link must not lead the new file out of the mount.
        return self._open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode)

    @contextmanager
    def _directory_of(self, name: Name) -> Iterator[int]:
        """A descriptor of the directory that holds ``name``, known to be in the mount."""
        with self._opened_directory(self.path(name).parent) as directory:
            yield directory

    @contextmanager
    def _opened_directory(self, path: Path) -> Iterator[int]:
        """A descriptor of the directory ``path``, known to be in the mount."""
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._require_device(os.fstat(directory))
            yield directory
        finally:
            os.close(directory)

    def _require_device(self, status: os.stat_result) -> None:
        if status.st_dev != self._device:
            raise NoMountError(
                f"{self.mount} is no longer the anonfs that it was, or a link leads out of it:"
                " connect again"
            )
