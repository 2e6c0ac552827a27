"""Requests that never wait: the thread that received one answers it, by the handler of all others.

A handler is a coroutine, for some of them wait. One that does not is over when it has been begun,
and needs no event loop: it is run with the engine's lock held, as the loop holds it when it runs.
So neither the loop is woken nor who passes its answers on. Here is all that making, opening,
mapping and unlinking a segment takes, and what else is done with names often. What may wait is
passed on: all that has to do with the tree, the attributes of an inspection, and a truncation that
cuts pages. So is what finds no room, see `Room`.

    measured, a LOOKUP of a name that is not there, until it is answered: 13 us, through pyfuse3 44;
    a segment of a page, from its making to its unlink: 0.4 ms, through pyfuse3 0.9
"""

import errno
import struct
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar, cast

from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    RequestContext,
    SetattrFields,
    XAttrNameT,
)

from anonfs.errors import InvariantError
from anonfs.units import Ino
from anonfsd._answers import errno_for
from anonfsd._engine_lock import EngineLock
from anonfsd._packed import packed_attributes, packed_entry, packed_open, packed_space
from anonfsd._room import NO_ROOM
from anonfsd._tree import Tree
from anonfsd._tree_operations import TreeOperations

__all__ = ["AtOnce", "Requester", "WaitsError"]

_LOOKUP, _FORGET, _GETATTR, _SETATTR, _MKDIR, _UNLINK, _RMDIR = 1, 2, 3, 4, 9, 10, 11
_RENAME, _LINK, _OPEN, _STATFS, _RENAME2 = 12, 13, 14, 17, 45
_RELEASE, _FSYNC, _GETXATTR, _FLUSH, _CREATE, _BATCH_FORGET = 18, 20, 22, 25, 35, 42

_FORGET_IN = struct.Struct("=Q")  # times
_BATCH_IN = struct.Struct("=II")  # count
_FORGET_ONE = struct.Struct("=QQ")  # inode, times
_OPEN_IN = struct.Struct("=I")  # flags
_CREATE_IN = struct.Struct("=IIII")  # flags, mode, umask, open_flags; the name
_MKDIR_IN = struct.Struct("=II")  # mode, umask; the name
_LINK_IN = struct.Struct("=Q")  # inode; the new name
_RENAME_IN = struct.Struct("=Q")  # directory; both names
_RENAME2_IN = struct.Struct("=QII")  # directory, flags; both names
_FH = struct.Struct("=Q")  # the first of fuse_flush_in, fuse_release_in and fuse_fsync_in
_SETATTR_IN = struct.Struct("=IIQqQqqqIIIIIIII")
_GETXATTR_IN = struct.Struct("=II")  # size; the name
_GETXATTR_OUT = struct.Struct("=II")  # size
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME, _CTIME = (1 << bit for bit in (0, 1, 2, 3, 4, 5, 10))
_SECOND = 1_000_000_000

_R = TypeVar("_R")


class WaitsError(Exception):
    """A request may have to wait."""


class Requester(NamedTuple):
    """Who makes a request, as a `RequestContext`."""

    uid: int
    gid: int
    pid: int


class _New(NamedTuple):
    """What a SETATTR sets, as `EntryAttributes`."""

    st_size: int
    st_mode: int
    st_uid: int
    st_gid: int
    st_atime_ns: int
    st_mtime_ns: int
    st_ctime_ns: int


class _Fields(NamedTuple):
    """What of it a SETATTR sets, as `SetattrFields`."""

    update_size: bool
    update_mode: bool
    update_uid: bool
    update_gid: bool
    update_atime: bool
    update_mtime: bool
    update_ctime: bool


class AtOnce:
    """Answers requests by the handlers of ``operations``, with ``lock`` held."""

    def __init__(self, operations: TreeOperations, lock: EngineLock) -> None:
        self._operations = operations
        self._lock = lock
        self._answers: dict[int, Callable[[InodeT, Requester, memoryview], bytes | None]] = {
            _LOOKUP: self._lookup,
            _FORGET: self._forget,
            _BATCH_FORGET: self._batch_forget,
            _GETATTR: self._getattr,
            _SETATTR: self._setattr,
            _MKDIR: self._mkdir,
            _UNLINK: self._unlink,
            _RMDIR: self._rmdir,
            _LINK: self._link,
            _RENAME: self._rename,
            _RENAME2: self._rename2,
            _OPEN: self._open,
            _CREATE: self._create,
            _FLUSH: self._flush,
            _FSYNC: self._fsync,
            _RELEASE: self._release,
            _STATFS: self._statfs,
            _GETXATTR: self._getxattr,
        }

    def serves(self, opcode: int, ino: int) -> bool:
        """Whether a request of an inode may be answered here."""
        return opcode in self._answers and not Tree.owns(ino)

    def answer(
        self, opcode: int, ino: int, requester: Requester, body: memoryview
    ) -> tuple[int, bytes | None]:
        """An errno, or 0 and what the answer consists of; None where there is none to be given.

        Raises WaitsError: it is for who can wait, and nothing has been done.
        """
        handler = self._answers[opcode]
        try:
            with self._lock:
                return 0, handler(InodeT(ino), requester, body)
        except WaitsError:
            raise
        except FUSEError as error:
            if error.errno in NO_ROOM:
                raise WaitsError from error
            return error.errno, None
        except Exception as error:  # noqa: BLE001  whatever it is, the kernel waits for an answer
            return errno_for(self._operations, handler.__name__.lstrip("_"), error), None

    # -- names -----------------------------------------------------------------------------

    def _lookup(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        ctx = _context(requester)
        return packed_entry(_ended(self._operations.lookup(ino, _name(body), ctx)))

    def _forget(self, ino: InodeT, _requester: Requester, body: memoryview) -> None:
        (times,) = _FORGET_IN.unpack_from(body)
        _ended(self._operations.forget([(ino, times)]))

    def _batch_forget(self, _ino: InodeT, _requester: Requester, body: memoryview) -> None:
        count, _ = _BATCH_IN.unpack_from(body)
        all_of_it = body[_BATCH_IN.size : _BATCH_IN.size + count * _FORGET_ONE.size]
        _ended(self._operations.forget(list(_FORGET_ONE.iter_unpack(all_of_it))))

    def _create(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        flags, mode, _, _ = _CREATE_IN.unpack_from(body)
        name = _name(body[_CREATE_IN.size :])
        file, entry = _ended(
            self._operations.create(ino, name, ModeT(mode), FlagT(flags), _context(requester))
        )
        return packed_entry(entry) + packed_open(file)

    def _unlink(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        _ended(self._operations.unlink(ino, _name(body), _context(requester)))
        return b""

    def _mkdir(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        mode, _ = _MKDIR_IN.unpack_from(body)
        name, ctx = _name(body[_MKDIR_IN.size :]), _context(requester)
        return packed_entry(_ended(self._operations.mkdir(ino, name, ModeT(mode), ctx)))

    def _rmdir(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        _ended(self._operations.rmdir(ino, _name(body), _context(requester)))
        return b""

    def _link(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        (linked,) = _LINK_IN.unpack_from(body)
        name, ctx = _name(body[_LINK_IN.size :]), _context(requester)
        return packed_entry(_ended(self._operations.link(InodeT(linked), ino, name, ctx)))

    def _rename(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        (directory,) = _RENAME_IN.unpack_from(body)
        self._move(ino, InodeT(directory), 0, requester, body[_RENAME_IN.size :])
        return b""

    def _rename2(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        directory, flags, _ = _RENAME2_IN.unpack_from(body)
        self._move(ino, InodeT(directory), flags, requester, body[_RENAME2_IN.size :])
        return b""

    def _move(
        self, ino: InodeT, directory: InodeT, flags: int, requester: Requester, names: memoryview
    ) -> None:
        old, new, *_ = map(FileNameT, bytes(names).split(b"\0"))
        ctx = _context(requester)
        _ended(self._operations.rename(ino, old, directory, new, FlagT(flags), ctx))

    # -- attributes ------------------------------------------------------------------------

    def _getattr(self, ino: InodeT, requester: Requester, _body: memoryview) -> bytes:
        return packed_attributes(_ended(self._operations.getattr(ino, _context(requester))))

    def _setattr(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        valid, _, _, size, _, *rest = _SETATTR_IN.unpack_from(body)
        inode = self._operations.filesystem.inodes.get(Ino(ino))
        if valid & _SIZE and inode is not None and size < inode.size:
            raise WaitsError
        times = [
            at * _SECOND + nanoseconds for at, nanoseconds in zip(rest[:3], rest[3:6], strict=True)
        ]
        mode, _, uid, gid, _ = rest[6:]
        new = cast("EntryAttributes", _New(size, mode, uid, gid, *times))
        bits = _SIZE, _MODE, _UID, _GID, _ATIME, _MTIME, _CTIME
        fields = cast("SetattrFields", _Fields(*(bool(valid & bit) for bit in bits)))
        changing = self._operations.setattr(ino, new, fields, None, _context(requester))
        return packed_attributes(_ended(changing))

    def _getxattr(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        size, _ = _GETXATTR_IN.unpack_from(body)
        name = XAttrNameT(_name(body[_GETXATTR_IN.size :]))
        if self._operations.inspection.owns(name):
            raise WaitsError
        value = _ended(self._operations.getxattr(ino, name, _context(requester)))
        if not size:
            return _GETXATTR_OUT.pack(len(value), 0)
        if len(value) > size:
            raise FUSEError(errno.ERANGE)
        return value

    def _statfs(self, _ino: InodeT, requester: Requester, _body: memoryview) -> bytes:
        return packed_space(_ended(self._operations.statfs(_context(requester))))

    # -- files -----------------------------------------------------------------------------

    def _open(self, ino: InodeT, requester: Requester, body: memoryview) -> bytes:
        (flags,) = _OPEN_IN.unpack_from(body)
        opening = self._operations.open(ino, FlagT(flags), _context(requester))
        return packed_open(_ended(opening))

    def _flush(self, _ino: InodeT, _requester: Requester, body: memoryview) -> bytes:
        _ended(self._operations.flush(_handle(body)))
        return b""

    def _fsync(self, _ino: InodeT, _requester: Requester, body: memoryview) -> bytes:
        _ended(self._operations.fsync(_handle(body), datasync=False))
        return b""

    def _release(self, _ino: InodeT, _requester: Requester, body: memoryview) -> bytes:
        _ended(self._operations.release(_handle(body)))
        return b""


def _ended(handling: Coroutine[Any, Any, _R]) -> _R:
    """What a handler returns that does not wait."""
    try:
        handling.send(None)
    except StopIteration as end:
        return cast("_R", end.value)
    handling.close()
    raise InvariantError("a handler waits that was not to")


def _context(requester: Requester) -> RequestContext:
    """``requester`` in the place of what pyfuse3 alone can make."""
    return cast("RequestContext", requester)


def _name(body: memoryview) -> FileNameT:
    return FileNameT(bytes(body).partition(b"\0")[0])


def _handle(body: memoryview) -> FileHandleT:
    return FileHandleT(_FH.unpack_from(body)[0])
