"""Overlays: files of an anonfs that show another file until they are written to.

The file is opened here, by whoever asks, and the daemon gets the descriptor. What was changed can
be told, written back and dropped again. Writing back is done here as well, with the caller's
rights: the daemon never writes to a file.
"""

import errno
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anonfs.client._errors import ClientError, NotAnonfsError, explained
from anonfs.client._inspect import Target, front_of, page_runs
from anonfs.client._mount_table import mount_of
from anonfs.client._new_file import NewFile
from anonfs.client._socket import ask, socket_name
from anonfs.inspection import Front, PageRun
from anonfs.units import pages_for

__all__ = [
    "changes",
    "discard",
    "looked_at",
    "make_overlay",
    "named",
    "opened",
    "overlay",
    "put_over",
    "require_front",
]

_OVERLAY, _COMMIT, _DISCARD = b"overlay", b"commit", b"discard"
_SECONDS = 10.0
_DISCARD_SECONDS = 60.0
_PAUSE = 0.01


def overlay(front: Target, destination: str | os.PathLike[str]) -> None:
    """Make a file ``destination`` of an anonfs that shows the file ``front`` until it is changed.

    It has mode 0600, and is promised the pages of its size as any other file. Nothing of ``front``
    is read before it is needed, and nothing is ever written to it, but by `commit`.

    Raises:
        NotAnonfsError: ``destination`` is not in an anonfs.
        ClientError: ``front`` is in the same mount, where `clone` is what is wanted.
        OSError: EEXIST; EISDIR, EINVAL, ``front`` is no regular file; ENOSPC, there is no room that
            the overlay could be promised; as open(2).
    """
    path = Path(destination)
    if mount_of(path.parent) is None:
        raise NotAnonfsError(f"{path} is not in an anonfs mount")
    with opened(front) as shown, explained(path):
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with NewFile(directory, ".overlay-") as made:
                make_overlay(made.descriptor, shown)
                made.link(path.name)
        finally:
            os.close(directory)


def make_overlay(made: int, front: int) -> None:
    """Let the empty file of an anonfs that is open as ``made`` show what is open as ``front``.

    Raises:
        ClientError: it is a file of the same mount.
        OSError: as `overlay`.
    """
    try:
        _asked(_OVERLAY, [made, front], _SECONDS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ClientError("the file is in the same mount: clone it instead") from error
        raise


def put_over(overlay: int, front: int, moment: int) -> None:
    """Let ``overlay`` show ``front``, which has what its copy ``moment`` shows.

    What was stored since stays a change. Two are open to write, ``front`` is to read.

    Raises OSError: as `overlay`; ESTALE, the overlay was discarded since.
    """
    _asked(_COMMIT, [overlay, front, moment], _SECONDS)


def _asked(request: bytes, descriptors: list[int], seconds: float) -> None:
    """Have the daemon of the first descriptor's mount do something. Raises OSError."""
    deadline = time.monotonic() + seconds
    try:
        name = socket_name(os.fstat(descriptors[0]).st_dev)
        while (answer := ask(name, request, descriptors, deadline)) == errno.EAGAIN:
            # Others of this user are in the way.
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE)
    except struct.error as error:
        raise TimeoutError(errno.ETIMEDOUT, "there was no answer") from error
    if answer:
        raise OSError(answer, os.strerror(answer))


@contextmanager
def opened(target: Target, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of ``target``, a regular file; its own where it has one."""
    if not isinstance(target, str | os.PathLike):
        yield target if isinstance(target, int) else target.fileno()
        return
    with explained(target):
        mode = Path(target).stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise ClientError(f"{target} is not a regular file")
        descriptor = os.open(target, flags | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def changes(target: Target) -> list[PageRun]:
    """The pages of an overlay that are not those of its front, as runs in one state.

    ``none`` are zeros where the front has something: the overlay was once cut there.

    Raises:
        ClientError: it is no overlay, or has so many runs that they cannot be told.
        NotAnonfsError: it is not a file of an anonfs.
    """
    with opened(target) as descriptor:
        front, runs = looked_at(descriptor)
    shown = pages_for(front.size)
    return [
        PageRun(run.first, min(run.last, shown - 1) if run.state == "none" else run.last, run.state)
        for run in runs
        if run.state != "front" and (run.state != "none" or run.first < shown)
    ]


def looked_at(descriptor: int) -> tuple[Front, list[PageRun]]:
    """What is under an overlay, and all its runs of pages; errors as of `changes`."""
    front = require_front(descriptor)
    os.fsync(descriptor)
    runs, complete = page_runs(descriptor)
    if not complete:
        raise ClientError(f"{named(descriptor)} has too many runs of pages to be told all")
    return front, runs


def require_front(descriptor: int) -> Front:
    """What is under an overlay. Raises ClientError: it is none."""
    front = front_of(descriptor)
    if front is None:
        raise ClientError(f"{named(descriptor)} is not an overlay")
    return front


def named(descriptor: int) -> Path:
    """What the kernel calls the file behind ``descriptor``."""
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def discard(target: Target) -> None:
    """Drop all that was changed in an overlay: it has the size and shows the bytes of its front.

    Whoever has it mapped sees them, too. A descriptor has to be open to write.

    Raises:
        ClientError: it is no overlay.
        OSError: EBUSY, others store to it as fast as it is dropped; ENOSPC, it was cut, and cannot
            have its size again.
    """
    with opened(target, os.O_RDWR) as descriptor:
        require_front(descriptor)
        with explained(named(descriptor)):
            _asked(_DISCARD, [descriptor], _DISCARD_SECONDS)
