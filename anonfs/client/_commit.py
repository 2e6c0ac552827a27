"""Commit: what was changed in an overlay is written to the file under it, all of it or nothing.

What is written is what the overlay shows at one moment: that of a copy, which shares its pages and
can be read in peace. The new file has no name before it is complete::

    copy the file (share the blocks, where the file system can) ─▶ changed pages over it ─▶ fsync
                                ─▶ rename over the file ─▶ fsync ─▶ the overlay is one over that

So whenever it ends, by SIGKILL or a power cut, the file has its old or its new contents. It is
another inode then: hard links keep the old one.

Between the rename and the end the overlay is over a file without a name, with all its changes. So
the new file is *announced* before, in an attribute of the overlay, and whoever commits next knows
what he finds.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from anonfs.client._clone import clone_into
from anonfs.client._descriptor import close_descriptor
from anonfs.client._errors import ClientError, explained
from anonfs.client._inspect import Target, freeze
from anonfs.client._mount_table import mounts_of_device
from anonfs.client._nameless import open_nameless
from anonfs.client._new_file import NewFile
from anonfs.client._overlay import looked_at, named, opened, put_over, require_front
from anonfs.inspection import Front, PageRun
from anonfs.units import PAGE_SIZE

__all__ = ["commit"]

_PIECE = 1 << 20
_ANNOUNCED = "user.anonfs-committed"
_DELETED = " (deleted)"
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
_NOT_OURS = {errno.EPERM, errno.EACCES, errno.ENODATA, errno.ENOTSUP, errno.EINVAL}
_NO_SUCH_COPY = {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


def commit(target: Target) -> Path:
    """Write what was changed in the overlay ``target`` to the file under it; returns its path.

    What is stored to the overlay meanwhile stays a change of it, over the file that was written.
    Where it is cut meanwhile, or discarded, it may keep all its changes, over the old file. A file
    of which nothing was changed stays as it is.

    Raises:
        ClientError: it is no overlay; its file was replaced, or its size was changed; it is being
            changed at this moment. Nothing was changed.
        OSError: as of the calls that it takes; ENOSPC, EDQUOT, also of the overlay, for as many
            pages as were changed. Nothing was changed, unless the last fsync failed.
    """
    with opened(target) as overlay, ExitStack() as stack:
        front = require_front(overlay)
        path = _place_of(front)
        with explained(path):
            directory, old = _open_old(stack, path)
            before = os.fstat(old)
            is_front = _require_known(before, path, front, overlay)
        with explained(named(overlay)):
            moment = stack.enter_context(_moment_of(overlay))
            # Not before, or the moment would take longer: it is nobody's who may store to it.
            kept = _opened_in(stack, f"/proc/self/fd/{overlay}", os.O_RDWR, None)
        _, runs = looked_at(moment)
        if is_front and _is_all_front(moment, runs, before.st_size):
            return path
        with explained(path):
            new = stack.enter_context(NewFile(directory, ".commit-"))
            _fill(new.descriptor, old if is_front else None, moment, runs)
            _take_over(new.descriptor, old, before)
            os.fsync(new.descriptor)
            _announce(kept, [os.fstat(new.descriptor)] + [before] * (not is_front))
            _require_unchanged(path, directory, before)
            new.replace(path.name)
            _sync(directory)
        # It is committed. Should the overlay stay over the old file, it shows the same.
        with suppress(OSError):
            committed = _opened_in(stack, path.name, os.O_RDONLY | os.O_NOFOLLOW, directory)
            if os.path.samestat(os.fstat(committed), os.fstat(new.descriptor)):
                put_over(kept, committed, moment)
                os.removexattr(kept, _ANNOUNCED)
    return path


def _place_of(front: Front) -> Path:
    """Where the file under an overlay is, or was before another one was renamed over it."""
    path = Path(front.path)
    return path if path.exists() else Path(front.path.removesuffix(_DELETED))


def _open_old(stack: ExitStack, path: Path) -> tuple[int, int]:
    """Descriptors of the directory, and of what is at ``path`` now."""
    try:
        directory = _opened_in(stack, path.parent, os.O_PATH | os.O_DIRECTORY, None)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        return directory, _opened_in(stack, path.name, flags, directory)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise ClientError(f"{path} was removed or replaced: nothing was committed") from error


def _opened_in(
    stack: ExitStack, name: str | os.PathLike[str], flags: int, directory: int | None
) -> int:
    descriptor = os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)
    stack.callback(os.close, descriptor)
    return descriptor


def _sync(directory: int) -> None:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- what is found, and what is left ---------------------------------------------------------------


def _require_known(status: os.stat_result, path: Path, front: Front, overlay: int) -> bool:
    """Whether what is at ``path`` is the front, or else what a commit that was killed has left."""
    if (status.st_dev, status.st_ino) == (front.device, front.ino):
        if status.st_size != front.size:
            was = f"it had {front.size} bytes when the overlay was made of it"
            raise ClientError(f"{path} has {status.st_size} bytes, {was}: nothing was committed")
        return True
    if _identity(status) not in _announced(overlay):
        raise ClientError(
            f"{path} is not the file that the overlay was made of any more: nothing was committed"
        )
    return False


def _announce(overlay: int, files: list[os.stat_result]) -> None:
    text = " ".join(_identity(status) for status in files)
    os.setxattr(overlay, _ANNOUNCED, text.encode())


def _announced(overlay: int) -> list[str]:
    try:
        return os.getxattr(overlay, _ANNOUNCED).decode("ascii", "replace").split()
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return []


def _identity(status: os.stat_result) -> str:
    """A word that is of this file alone, until it is written to; to rename it does not matter."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def _require_unchanged(path: Path, directory: int, before: os.stat_result) -> None:
    after = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    if _version(after) != _version(before):
        raise ClientError(f"{path} is being changed: nothing was committed")


def _version(status: os.stat_result) -> tuple[int, ...]:
    """What changes with a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


# -- the moment ------------------------------------------------------------------------------------


@contextmanager
def _moment_of(overlay: int) -> Iterator[int]:
    """A copy of ``overlay`` as it is now, to which nothing is ever stored."""
    moment = _nameless_beside(overlay)
    try:
        freeze(moment)
        clone_into(overlay, moment)
        yield moment
    finally:
        close_descriptor(moment)


def _nameless_beside(overlay: int) -> int:
    """A new file in the same mount, wherever the caller may make one."""
    device = os.fstat(overlay).st_dev
    refused = OSError(errno.EACCES, os.strerror(errno.EACCES))
    for place in (named(overlay).parent, *mounts_of_device(device)):
        try:
            directory = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if os.fstat(directory).st_dev == device:
                    return open_nameless(directory)
            finally:
                os.close(directory)
        except OSError as error:
            refused = error
    raise refused


def _is_all_front(moment: int, runs: list[PageRun], size: int) -> bool:
    """Whether ``moment`` shows all ``size`` bytes of its front, and nothing else."""
    return os.fstat(moment).st_size == size and all(run.state == "front" for run in runs)


# -- the new file ----------------------------------------------------------------------------------


def _fill(new: int, old: int | None, moment: int, runs: list[PageRun]) -> None:
    """Give ``new`` what ``moment`` shows, much of which is in ``old`` if that is its front.

    Of the last page that it shows of its front that may be a part: it is read there.
    """
    last = max((run.last for run in runs if run.state == "front"), default=0)
    if old is not None:
        _copy(old, new, last * PAGE_SIZE)
    size = os.fstat(moment).st_size
    for first, through in [*_not_in(old, runs, last), (last, last)]:
        offset, end = first * PAGE_SIZE, min((through + 1) * PAGE_SIZE, size)
        while offset < end:
            data = os.pread(moment, min(_PIECE, end - offset), offset)
            _write(new, data, offset)
            offset += len(data)
    os.ftruncate(new, size)


def _not_in(old: int | None, runs: list[PageRun], last: int) -> list[tuple[int, int]]:
    """The runs of pages to be read; zeros are beyond the ``last`` one of the front anyway."""
    return [
        (run.first, run.last)
        for run in runs
        if (run.state != "front" or old is None) and (run.state != "none" or run.first < last)
    ]


def _copy(old: int, new: int, size: int) -> None:
    """Copy ``size`` bytes, or have the file system share them."""
    done = 0
    while done < size:
        try:
            copied = os.copy_file_range(old, new, size - done, done, done)
        except OSError as error:
            if error.errno not in _NO_SUCH_COPY:
                raise
            data = os.pread(old, min(_PIECE, size - done), done)
            _write(new, data, done)
            copied = len(data)
        if not copied:
            raise ClientError("the file was cut meanwhile")
        done += copied


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _take_over(new: int, old: int, status: os.stat_result) -> None:
    """Give ``new`` owner, mode and extended attributes of ``old``."""
    if (status.st_uid, status.st_gid) != (os.fstat(new).st_uid, os.fstat(new).st_gid):
        try:
            os.fchown(new, status.st_uid, status.st_gid)
        except PermissionError as error:
            whose = f"user {status.st_uid} and group {status.st_gid}"
            raise ClientError(f"a new file cannot be given to {whose}, as the old one") from error
    os.fchmod(new, stat.S_IMODE(status.st_mode))
    for name in _attributes(old):
        try:
            os.setxattr(new, name, os.getxattr(old, name))
        except OSError as error:
            # As cp(1) and shutil have it, of what is not for the caller to give.
            if error.errno not in _NOT_OURS:
                raise


def _attributes(descriptor: int) -> list[str]:
    """The names of the extended attributes; none where the file system has no such thing."""
    try:
        return os.listxattr(descriptor)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return []
