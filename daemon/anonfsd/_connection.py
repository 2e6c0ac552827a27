"""The connection to the kernel, as pyfuse3 is to see it.

pyfuse3 is given one end of a socket pair for its device. It is told FUSE_INIT over it, and later
whatever the request threads do not answer themselves (`Requests`). In the exchange of FUSE_INIT
flags change that libfuse would not let anybody choose:

    AUTO_INVAL_DATA      off: it drops a file's page cache and every PTE when its mtime has changed
    EXPLICIT_INVAL_DATA  on: pages leave the page cache when the daemon says so
    ATOMIC_O_TRUNC       off: an OPEN that truncates does not wait for the write-back under way,
                         which then arrives after it and brings the old bytes back (Linux 6.18);
                         a SETATTR, which takes its place, does
"""

import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable

import pyfuse3
import trio

from anonfs.swap import AsyncReads
from anonfsd._requests import Answerers, Requests

__all__ = ["Connection"]

_ATOMIC_O_TRUNC = 1 << 3
_AUTO_INVAL_DATA = 1 << 12
_UNWANTED = _ATOMIC_O_TRUNC | _AUTO_INVAL_DATA
_EXPLICIT_INVAL_DATA = 1 << 25

_REQUEST_FLAGS_AT = 40 + 12  # fuse_in_header, then major, minor, max_readahead, flags
_REPLY_FLAGS_AT = 16 + 12  # fuse_out_header, then the same
_CONGESTION_AT = 16 + 18  # after the flags: max_background, congestion_threshold
_NEVER_CONGESTED = 0xFFFF
_READ_BUFFER = 1 << 17
_SOCKET_BUFFER = 8 << 20
_SO_SNDBUFFORCE = 32  # linux/asm-generic/socket.h

_WORKERS = 1000  # each request that waits takes one; Inspection and Room bound how many do


class Connection:
    """The /dev/fuse descriptor ``device`` of a new mount.

    ``operations`` answers what ``answerers`` do not; for ``reads`` and ``granted`` see `Requests`.
    """

    def __init__(
        self,
        device: int,
        operations: pyfuse3.Operations,
        answerers: Answerers,
        reads: AsyncReads | None,
        granted: Callable[[int, int], None],
    ) -> None:
        self._device = device
        self._operations = operations
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._ours, theirs):
            _widen(end)
        self._theirs = theirs.detach()
        self._requests = Requests(device, self._ours, answerers, reads, granted, self._stop_soon)
        self._token: trio.lowlevel.TrioToken | None = None
        self._closed = False

    async def negotiate(self) -> None:
        """Exchange FUSE_INIT. Raises OSError: the mount has gone."""
        request = await trio.to_thread.run_sync(os.read, self._device, _READ_BUFFER)
        request = _with_other_flags(request, _REQUEST_FLAGS_AT, off=_UNWANTED)
        pyfuse3.init(self._operations, f"/dev/fd/{self._theirs}", set())
        reply = await _answer(self._ours.dup(), request, pyfuse3.main)
        self._ours.setblocking(True)  # a duplicate shares that with the original
        reply = _with_other_flags(reply, _REPLY_FLAGS_AT, on=_EXPLICIT_INVAL_DATA)
        os.write(self._device, _never_congested(reply))

    async def serve(self) -> None:
        """Answer requests until the mount is gone or `stop` is called."""
        self._token = trio.lowlevel.current_trio_token()
        self._requests.start()
        await pyfuse3.main(max_tasks=_WORKERS)

    def _stop_soon(self) -> None:
        """The connection is gone; called by a thread, whose daemon may be gone as well."""
        with contextlib.suppress(trio.RunFinishedError):
            if self._token is not None:
                self._token.run_sync_soon(self.stop)

    def stop(self) -> None:
        """Let `serve` return; the connection is still there until `close`."""
        # A thread may tell of the end of the connection when we have closed it.
        if not self._closed:
            pyfuse3.terminate()

    def close(self) -> None:
        """Take no more requests.

        The device is closed with the process, upon which whoever still waits for an answer gets an
        error: until then threads wait for requests on it, and its number must not be reused.
        """
        self._requests.stop()
        self._closed = True
        pyfuse3.close(unmount=False)


def _widen(end: socket.socket) -> None:
    """Let ``end`` send what is larger than a socket's default: 208 KiB, a message of its own."""
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SOCKET_BUFFER)
    except PermissionError:
        # Twice net.core.wmem_max, the most that a user gets.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)


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


def _never_congested(reply: bytes) -> bytes:
    """A reply to FUSE_INIT after which write-back without waiting begins however much is under way.

    The kernel skips what is beyond the threshold, of 9 requests, and reclaim would wait for its
    single pages one after the other: four times as long where dirty pages are scattered. How many
    of them are in the way of others is for max_background, which stays as it is.
    """
    changed = bytearray(reply)
    struct.pack_into("=H", changed, _CONGESTION_AT, _NEVER_CONGESTED)
    return bytes(changed)
