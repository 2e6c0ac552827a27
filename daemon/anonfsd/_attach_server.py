"""AttachServer: the socket at which processes hand over descriptors.

Its name is abstract and random; ``.anonfs/socket`` tells it to whoever can read the mount. A client
connects, sends one packet and gets one back::

    ──▶ b"attach" with a userfaultfd       the first time
    ──▶ b"attach"                          for what it has mapped since
    ──▶ b"overlay" with two files          one of the mount, and what it is to show: `Fronts`
    ──▶ b"commit" with three files         an overlay, what it was committed to, and its copy
    ──▶ b"discard" with an overlay         for what was written to it, see `Discarding`
    ◀── an errno, 0 if it is done          4 bytes, in the order of the machine

Who the client is the kernel says (SO_PEERCRED), and a userfaultfd is proven by `Attachments`, which
there are where the daemon may have forks reported.
A client that is slow to ask loses its connection; a user who has many at once is refused more.
"""

import array
import contextlib
import errno
import logging
import secrets
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import Callable

import trio

from anonfsd._attachments import Attachments
from anonfsd._discarding import Discarding
from anonfsd._fronts import Fronts, Handed
from anonfsd._sparse import Sparse

__all__ = ["AttachServer"]

log = logging.getLogger(__name__)
log.addFilter(Sparse())

_ATTACH, _OVERLAY, _COMMIT, _DISCARD = b"attach", b"overlay", b"commit", b"discard"
_WITH = {_ATTACH: {0, 1}, _OVERLAY: {2}, _COMMIT: {3}, _DISCARD: {1}}  # so many descriptors
_LONGEST, _MOST = 7, 3
_ASK_SECONDS = 1.0
_ANSWER_SECONDS = 10.0  # for which clients wait at most: it may be the machine that is slow
_CONNECTIONS = 128
_PER_UID = 16
_THREADS = 16
_OVERLAY_THREADS = 4
_BACKLOG = 128
_FD = array.array("i").itemsize
_CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid


class AttachServer:
    """Answers clients of ``attachments`` and of ``fronts``.

    Attributes:
        name: the abstract name of the socket, with ``@`` for its first byte.
    """

    def __init__(
        self, attachments: Attachments | None, fronts: Fronts, discarding: Discarding
    ) -> None:
        self._attachments = attachments
        self._fronts = fronts
        self._discarding = discarding
        # A front may be a file that does not answer: its user's requests alone wait for it.
        self._limiters = defaultdict[int, trio.CapacityLimiter](
            lambda: trio.CapacityLimiter(_OVERLAY_THREADS)
        )
        self._limiter = trio.CapacityLimiter(_THREADS)
        self._connections: Counter[int] = Counter()
        self.name = f"@anonfs-{secrets.token_hex(16)}"
        kind = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_UNIX, kind)
        self._socket.bind("\0" + self.name[1:])
        self._socket.listen(_BACKLOG)

    async def serve(self) -> None:
        """Answer; runs for ever."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    await trio.lowlevel.wait_readable(self._socket)
                    try:
                        connection, _ = self._socket.accept()
                    except OSError as error:  # gone again, or no descriptor is left
                        log.warning("a client cannot be answered: %s", error.strerror)
                        await trio.sleep(0.01)
                        continue
                    nursery.start_soon(self._answer, connection)
        finally:
            self._socket.close()

    async def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.setblocking(False)
            size = _CREDENTIALS.size
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            pid, uid, _ = _CREDENTIALS.unpack(raw)
            # What is not received is closed by the kernel, and nobody waits for that.
            full = self._connections[uid] >= _PER_UID or self._fronts.is_discarding(uid)
            self._connections[uid] += 1
            try:
                if full or self._connections.total() > _CONNECTIONS:
                    log.warning("user %d has too many connections", uid)
                    _send(connection, errno.EAGAIN)
                    _leave(connection)
                    return
                with trio.move_on_after(_ASK_SECONDS) as asking:
                    await trio.lowlevel.wait_readable(connection)
                if not asking.cancelled_caught:
                    with trio.move_on_after(_ANSWER_SECONDS):
                        _send(connection, await self._done(connection, pid, uid))
            finally:
                self._connections[uid] -= 1
                if not self._connections[uid]:
                    del self._connections[uid]

    async def _done(self, connection: socket.socket, pid: int, uid: int) -> int:
        """Do what the packet asks for; returns an errno."""
        try:
            data, descriptors = self._received(connection, uid)
            if data == _OVERLAY:
                await self._put_over(self._fronts.overlay, descriptors, uid)
            elif data == _COMMIT:
                await self._put_over(self._fronts.commit, descriptors, uid)
            elif data == _DISCARD:
                with trio.CancelScope(shield=True):  # it does not take for ever
                    await self._discarding.discard(descriptors[0], uid)
            else:
                await self._attach(pid, uid, descriptors[0] if descriptors else None)
        except OSError as error:
            # A client that only asks whether it is known is no news.
            if error.errno not in {errno.ESRCH, errno.EOPNOTSUPP}:
                log.warning("process %d of user %d is refused: %s", pid, uid, error)
            return error.errno or errno.EIO
        return 0

    async def _attach(self, pid: int, uid: int, descriptor: int | None) -> None:
        if self._attachments is None:
            if descriptor is not None:
                self._fronts.discard(descriptor, uid)
            raise OSError(errno.EOPNOTSUPP, "only root is told of forks")
        await trio.to_thread.run_sync(
            self._attachments.attach,
            pid,
            uid,
            descriptor,
            limiter=self._limiter,
            abandon_on_cancel=True,
        )

    async def _put_over(
        self, call: Callable[[Handed, int], None], descriptors: list[int], uid: int
    ) -> None:
        limiter = self._limiters[uid]
        if limiter.available_tokens < 1:
            for descriptor in descriptors:
                self._fronts.discard(descriptor, uid)
            raise OSError(errno.EAGAIN, "files that were handed over do not answer")
        await trio.to_thread.run_sync(
            call, Handed(*descriptors), uid, limiter=limiter, abandon_on_cancel=True
        )

    def _received(self, connection: socket.socket, uid: int) -> tuple[bytes, list[int]]:
        """The packet, and the descriptors that came with it. Raises OSError: EINVAL."""
        room = socket.CMSG_SPACE((_MOST + 1) * _FD)
        data, ancillary, flags, _ = connection.recvmsg(_LONGEST + 1, room, socket.MSG_CMSG_CLOEXEC)
        found = array.array("i")
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found.frombytes(content[: len(content) // _FD * _FD])
        if len(found) not in _WITH.get(data, set()) or flags & (
            socket.MSG_CTRUNC | socket.MSG_TRUNC
        ):
            for descriptor in found:
                self._fronts.discard(descriptor, uid)
            raise OSError(errno.EINVAL, "a bad request")
        return data, found.tolist()


def _leave(connection: socket.socket) -> None:
    """Leave what has come unread, in such a way that the client reads its answer all the same.

    Received without a place for descriptors they are let go of by the kernel, without a wait.
    """
    with contextlib.suppress(OSError):
        connection.recv(1)


def _send(connection: socket.socket, number: int) -> None:
    try:
        connection.send(struct.pack("=i", number))
    except OSError:
        log.debug("a client did not wait for its answer")
