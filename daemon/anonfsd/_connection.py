"""The connection to the kernel: its first message, and messages that pyfuse3 has no call for.

pyfuse3 is given one end of a socket pair for its device and is told FUSE_INIT over it; its answer
goes on to the kernel, and then the real descriptor takes the socket's place. In between two flags
change: AUTO_INVAL_DATA, which would drop a file's page cache and every PTE whenever its mtime has
changed, gives way to EXPLICIT_INVAL_DATA: pages leave the page cache when the daemon says so.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyfuse3
import trio

__all__ = ["Connection"]

_FUSE_INIT = 26
_AUTO_INVAL_DATA = 1 << 12
_EXPLICIT_INVAL_DATA = 1 << 25
_NOTIFY_INVAL_INODE = 2
_NOTIFY_INVAL_ENTRY = 3

_REQUEST_FLAGS_AT = 40 + 12  # fuse_in_header, then major, minor, max_readahead, flags
_REPLY_FLAGS_AT = 16 + 12  # fuse_out_header, then the same
_READ_BUFFER = 1 << 17

_SYNC_AND_WAIT = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | _WRITE | _WAIT_AFTER
_NOTIFY_THREADS = 4

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
        request, explicit = _without_auto_inval(request)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        served = theirs.detach()
        pyfuse3.init(self._operations, f"/dev/fd/{served}", set())
        with ours:
            reply = await _answer(ours, request, pyfuse3.main)
        os.write(self._device, _with_explicit_inval(reply) if explicit else reply)
        os.dup2(self._device, served, inheritable=False)
        os.close(self._device)
        self._device = served

    async def serve(self) -> None:
        """Answer requests until the mount is gone or `stop` is called."""
        await pyfuse3.main()

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

    async def forget_name(self, parent: int, name: bytes) -> None:
        """Have the kernel drop a name from its caches, and with it its hold on the inode.

        Raises OSError.
        """
        body = struct.pack("=QII", parent, len(name), 0) + name + b"\0"
        await self._notify(_NOTIFY_INVAL_ENTRY, body)

    async def _notify(self, code: int, body: bytes) -> None:
        message = struct.pack("=IiQ", 16 + len(body), code, 0) + body
        # Not found: the kernel's caches do not hold it, so there is nothing to drop.
        with contextlib.suppress(FileNotFoundError):
            await trio.to_thread.run_sync(os.write, self._device, message, limiter=self._limiter)

    async def write_back(self, path: Path, device: int, offset: int, length: int) -> None:
        """Have dirty pages of a range (bytes) of the file at ``path`` written in large requests.

        An invalidation does the same page by page. ``device`` is the st_dev that the file must
        have. Raises OSError.
        """
        await trio.to_thread.run_sync(
            _sync_file_range, path, device, offset, length, limiter=self._limiter
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


def _without_auto_inval(request: bytes) -> tuple[bytes, bool]:
    """FUSE_INIT without that offer, and whether the kernel knows explicit invalidation."""
    (opcode,) = struct.unpack_from("=I", request, 4)
    if opcode != _FUSE_INIT:
        raise OSError(errno.EPROTO, "the first request was not FUSE_INIT")
    (flags,) = struct.unpack_from("=I", request, _REQUEST_FLAGS_AT)
    if not flags & _EXPLICIT_INVAL_DATA:
        return request, False
    return _with_flags(request, _REQUEST_FLAGS_AT, flags & ~_AUTO_INVAL_DATA), True


def _with_explicit_inval(reply: bytes) -> bytes:
    (flags,) = struct.unpack_from("=I", reply, _REPLY_FLAGS_AT)
    return _with_flags(reply, _REPLY_FLAGS_AT, flags | _EXPLICIT_INVAL_DATA)


def _with_flags(message: bytes, at: int, flags: int) -> bytes:
    changed = bytearray(message)
    struct.pack_into("=I", changed, at, flags)
    return bytes(changed)


def _sync_file_range(path: Path, device: int, offset: int, length: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(fd).st_dev != device:
            raise OSError(errno.EXDEV, "something else is mounted there")
        result = _libc.sync_file_range(
            fd, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_AND_WAIT
        )
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(fd)
