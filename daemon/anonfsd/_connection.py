"""The connection to the kernel: its first message, and messages that pyfuse3 has no call for.

pyfuse3 is given one end of a socket pair for its device and is told FUSE_INIT over it; its answer
goes on to the kernel, and then the real descriptor takes the socket's place. In between, flags
change that libfuse would not let anybody choose:

    AUTO_INVAL_DATA      off: it drops a file's page cache and every PTE when its mtime has changed
    EXPLICIT_INVAL_DATA  on: pages leave the page cache when the daemon says so
    ATOMIC_O_TRUNC       off: an OPEN that truncates does not wait for the write-back under way,
                         which then arrives after it and brings the old bytes back (Linux 6.18);
                         a SETATTR, which takes its place, does
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pyfuse3
import trio

from anonfs.client import Mount
from anonfs.errors import AnonfsError

__all__ = ["Connection"]

_ATOMIC_O_TRUNC = 1 << 3
_AUTO_INVAL_DATA = 1 << 12
_UNWANTED = _ATOMIC_O_TRUNC | _AUTO_INVAL_DATA
_EXPLICIT_INVAL_DATA = 1 << 25
_NOTIFY_INVAL_INODE = 2

_REQUEST_FLAGS_AT = 40 + 12  # fuse_in_header, then major, minor, max_readahead, flags
_REPLY_FLAGS_AT = 16 + 12  # fuse_out_header, then the same
_READ_BUFFER = 1 << 17

_FILEID_INO64_GEN = 0x81  # linux/exportfs.h: 64 bits of inode number, 32 of generation
_SYNC_AND_WAIT = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | _WRITE | _WAIT_AFTER
_NOTIFY_THREADS = 4
_WORKERS = 1000  # each request that waits takes one; see Inspection for what bounds those

_libc = ctypes.CDLL(None, use_errno=True)


class Connection:
    """The /dev/fuse descriptor ``device`` of a new mount, to be served by ``operations``."""

    def __init__(self, device: int, operations: pyfuse3.Operations) -> None:
        self._device = device
        self._operations = operations
        # Its own limiter: these threads wait for the daemon's answers to the kernel.
        self._limiter = trio.CapacityLimiter(_NOTIFY_THREADS)

    async def negotiate(self) -> None:
        """Exchange FUSE_INIT. Raises OSError: the mount has gone."""
        request = await trio.to_thread.run_sync(os.read, self._device, _READ_BUFFER)
        request = _with_other_flags(request, _REQUEST_FLAGS_AT, off=_UNWANTED)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        served = theirs.detach()
        pyfuse3.init(self._operations, f"/dev/fd/{served}", set())
        with ours:
            reply = await _answer(ours, request, pyfuse3.main)
        reply = _with_other_flags(reply, _REPLY_FLAGS_AT, on=_EXPLICIT_INVAL_DATA)
        os.write(self._device, reply)
        os.dup2(self._device, served, inheritable=False)
        os.close(self._device)
        self._device = served

    async def serve(self) -> None:
        """Answer requests until the mount is gone or `stop` is called."""
        await pyfuse3.main(max_tasks=_WORKERS)

    def stop(self) -> None:
        """Let `serve` return; the connection is still there until `close`."""
        pyfuse3.terminate()

    def close(self) -> None:
        """Close the device: whoever still waits for an answer gets an error."""
        pyfuse3.close(unmount=False)

    async def invalidate(self, ino: int, offset: int, length: int) -> None:
        """Write back and drop the cached pages of a range (bytes), and the PTEs of all mappers.

        Raises OSError.
        """
        await self._notify(_NOTIFY_INVAL_INODE, struct.pack("=Qqq", ino, offset, length))

    async def _notify(self, code: int, body: bytes) -> None:
        message = struct.pack("=IiQ", 16 + len(body), code, 0) + body
        # Not found: the kernel's caches do not hold it, so there is nothing to drop.
        with contextlib.suppress(FileNotFoundError):
            await trio.to_thread.run_sync(os.write, self._device, message, limiter=self._limiter)

    async def write_back(self, mounted: Mount, ino: int, offset: int, length: int) -> None:
        """Have the dirty pages of a range (bytes) of an inode written in large requests.

        An invalidation does the same page by page.

        Raises:
            PermissionError: only root may open an inode by its number.
            OSError: ESTALE, the kernel's caches do not hold it; or the error of a write.
        """
        await trio.to_thread.run_sync(
            _sync_file_range, mounted, ino, offset, length, limiter=self._limiter
        )


async def _answer(
    ours: socket.socket, request: bytes, serve: Callable[[], Awaitable[None]]
) -> bytes:
    """What the server at the other end of ``ours`` replies to ``request``."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.socket.from_stdlib_socket(ours) as peer:
            await peer.send(request)
            reply = await peer.recv(_READ_BUFFER)
        nursery.cancel_scope.cancel()
    return reply


def _with_other_flags(message: bytes, at: int, *, on: int = 0, off: int = 0) -> bytes:
    (flags,) = struct.unpack_from("=I", message, at)
    changed = bytearray(message)
    struct.pack_into("=I", changed, at, flags & ~off | on)
    return bytes(changed)


def _sync_file_range(mounted: Mount, ino: int, offset: int, length: int) -> None:
    fd = _open_by_number(mounted, ino)
    try:
        _check(
            _libc.sync_file_range(
                fd, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_AND_WAIT
            )
        )
    finally:
        os.close(fd)


def _open_by_number(mounted: Mount, ino: int) -> int:
    """Open an inode as open_by_handle_at(2) does, with a handle as the kernel makes it for FUSE.

    Not by a name: looking one up waits for the lock of its directory, whose owner may be waiting
    for the lock of the very inode that is held until we are done.
    """
    handle = struct.pack("=IiIII", 12, _FILEID_INO64_GEN, ino >> 32, ino & 0xFFFFFFFF, 0)
    root = os.open(mounted.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(root).st_dev != os.makedev(*mounted.device):
            raise OSError(errno.ESTALE, "something else is mounted there")
        return _check(_libc.open_by_handle_at(root, handle, os.O_RDONLY | os.O_CLOEXEC))
    finally:
        os.close(root)


def _check(result: int) -> int:
    if result < 0:
        raise AnonfsError(ctypes.get_errno())
    return result
