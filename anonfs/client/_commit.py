"""Commit: what was changed in an overlay is written to the file under it, all of it or nothing.

    copy (the blocks shared, where the file system can) ─▶ changed pages over it ─▶ fsync
                                                        ─▶ rename over the file ─▶ fsync

So whenever it ends, by SIGKILL or a power cut, the file has its old or its new contents. It is
another inode then: hard links keep the old one, and so does the overlay, which shows what it did.
"""

import errno
import os
import secrets
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from anonfs.client._errors import ClientError, explained
from anonfs.client._inspect import Target
from anonfs.client._overlay import looked_at, opened
from anonfs.inspection import Front, PageRun
from anonfs.units import PAGE_SIZE

__all__ = ["commit"]

_PIECE = 1 << 20
_NOT_OURS = {errno.EPERM, errno.EACCES, errno.ENODATA, errno.ENOTSUP, errno.EINVAL}
_NO_SUCH_COPY = {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


def commit(target: Target) -> Path:
    """Write what was changed in the overlay ``target`` to the file under it; returns its path.

    What is stored to the overlay meanwhile is in it or not.

    Raises:
        ClientError: it is no overlay; its file was replaced, or its size was changed; it is being
            changed at this moment. Nothing was changed.
        OSError: as of the calls that it takes. Nothing was changed, unless the last fsync failed.
    """
    with ExitStack() as stack:
        overlay = stack.enter_context(opened(target))
        front, runs = looked_at(overlay)
        path = Path(front.path)
        stack.enter_context(explained(path))
        directory = _opened_in(stack, path.parent, os.O_PATH | os.O_DIRECTORY, None)
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            old = _opened_in(stack, path.name, flags, directory)
        except FileNotFoundError as error:
            raise ClientError(f"{path}: the file was removed or replaced") from error
        before = os.fstat(old)
        _require_same(before, front)
        name = f".commit-{secrets.token_hex(16)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        new = _opened_in(stack, name, flags, directory)
        try:
            _fill(new, old, overlay, runs)
            _take_over(new, old, before)
            os.fsync(new)
            _require_unchanged(path, directory, before)
            os.rename(name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            raise
        _sync(path.parent)
    return path


def _opened_in(
    stack: ExitStack, name: str | os.PathLike[str], flags: int, directory: int | None
) -> int:
    descriptor = os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=directory)
    stack.callback(os.close, descriptor)
    return descriptor


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_same(status: os.stat_result, front: Front) -> None:
    if (status.st_dev, status.st_ino) != (front.device, front.ino):
        raise ClientError(f"{front.path} is not the file that the overlay was made of any more")
    if status.st_size != front.size:
        raise ClientError(f"{front.path} had {front.size} bytes when the overlay was made of it")


def _require_unchanged(path: Path, directory: int, before: os.stat_result) -> None:
    after = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    if _version(after) != _version(before):
        raise ClientError(f"{path} is being changed: nothing was committed")


def _version(status: os.stat_result) -> tuple[int, ...]:
    """What changes with a file."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _fill(new: int, old: int, overlay: int, runs: list[PageRun]) -> None:
    """Give ``new`` what ``overlay`` shows, much of which is in ``old``.

    Of the last page that the overlay shows of ``old`` it may show a part: it is read there.
    """
    last = max((run.last for run in runs if run.state == "front"), default=0)
    _copy(old, new, last * PAGE_SIZE)
    size = os.fstat(overlay).st_size
    # What is none is a hole, of which the copy knows nothing; behind it the file is zeros anyhow.
    own = [run for run in runs if run.state in {"in_core", "on_swap"}]
    holes = [run for run in runs if run.state == "none" and run.first < last]
    for first, through in [*((run.first, run.last) for run in own + holes), (last, last)]:
        offset, end = first * PAGE_SIZE, min((through + 1) * PAGE_SIZE, size)
        while offset < end:
            data = os.pread(overlay, min(_PIECE, end - offset), offset)
            if not data:
                raise ClientError("the overlay was cut meanwhile")
            _write(new, data, offset)
            offset += len(data)
    os.ftruncate(new, size)


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
        os.fchown(new, status.st_uid, status.st_gid)
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
