"""The proc connector: the kernel's word on each fork, exec and exit, over netlink.

One datagram an event, of which these words are looked at (bytes from its beginning)::

    0          16              36        52                 56        60         64
    nlmsghdr   cn_msg: index,  what      fork: parent pid,  tgid,     child pid, tgid
               value, ...      cpu time  exec: pid,         tgid
                                         exit: pid,         tgid
                                         none: errno of the subscription

A filter in the kernel drops what nobody wants: other kinds, and forks that made a thread, whose
pid is not its tgid (a thread's parent is that of its process, so the parent's tgid says nothing).
Exits of threads are kept: the last thread of a process may be any of them, and no event says which.

Fork comes when the child is complete but has not run, exec when the new memory is in place, exit
when the thread has let go of its memory (`copy_process`, `begin_new_exec` and `do_exit` in the
kernel). After an exec by another thread than the first the pid is the process's, for that thread
has taken it over.

The parent is the one in /proc: a child made with CLONE_PARENT names its forker's parent.

Events are reasons to look, never the truth itself: they may be lost when nobody reads them in time,
and that is told, too. It must not know trio: doctor subscribes as well.
"""

import contextlib
import errno
import os
import socket
import struct
from ctypes import addressof, create_string_buffer
from typing import Protocol, Self

__all__ = ["ProcConnector", "ProcessListener", "tell"]

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_KERNEL = 0  # the port that the kernel sends from
_LISTEN, _IGNORE = 1, 2
_NLMSG_DONE = 3
_SO_RCVBUFFORCE = 33

_FORK, _EXEC, _EXIT, _NONE = 1, 2, 0x80000000, 0

_HEADER = struct.Struct("=IHHII")
_CN_MSG = struct.Struct("=IIIIHH")
_EVENT = struct.Struct("=16xII12xI12xIIII")  # index, value, what, and four words of the event
_RECEIVE_BUFFER = 16 << 20  # some 10,000 events and more: each takes about 1 KiB of it
_BATCH = 256
_ANSWER_SECONDS = 0.1  # it comes before send returns


class ProcessListener(Protocol):
    """Somebody who wants to know; every pid is of a process (a tgid), but for ``thread``."""

    def forked(self, parent: int, child: int) -> None:
        """``parent`` has made the process ``child``."""

    def execed(self, pid: int) -> None:
        """``pid`` runs a new program."""

    def exited(self, thread: int, pid: int) -> None:
        """``thread`` of ``pid`` has ended; it is the first one where both are the same."""

    def lost(self) -> None:
        """Events were lost: anything may have happened."""


def tell(packet: bytes | bytearray | memoryview, size: int, listener: ProcessListener) -> None:
    """Tell ``listener`` what the first ``size`` bytes of ``packet`` say, if it wants to know."""
    if size < _EVENT.size:
        return
    index, value, what, pid, tgid, child, child_tgid = _EVENT.unpack_from(packet)
    if (index, value) != (_CN_IDX_PROC, _CN_VAL_PROC):
        return
    if what == _FORK:
        if child == child_tgid:
            listener.forked(tgid, child)
    elif what == _EXIT:
        listener.exited(pid, tgid)
    elif what == _EXEC:
        listener.execed(tgid)


class ProcConnector:
    """A subscription to the events of all processes; made by `subscribe`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._packet = bytearray(256)

    @classmethod
    def subscribe(cls) -> Self:
        """Begin to receive; the kernel confirms it, for which this waits 0.1 s at most.

        Raises OSError, whose text says what is missing.
        """
        try:
            connection = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        except OSError as error:
            raise OSError(error.errno, "the kernel has no CONFIG_CONNECTOR") from None
        try:
            connector = cls(connection)
            connector._begin()
        except BaseException:
            connection.close()
            raise
        return connector

    def _begin(self) -> None:
        _enlarge(self._socket)
        try:
            self._socket.bind((0, _CN_IDX_PROC))
        except PermissionError as error:
            raise PermissionError(error.errno, "needs CAP_NET_ADMIN") from None
        self._socket.settimeout(_ANSWER_SECONDS)
        try:
            self._order(_LISTEN)
            refusal = self._confirmation()
        except ConnectionRefusedError as error:
            text = "the first network namespace alone has them"
            raise ConnectionRefusedError(error.errno, text) from None
        except TimeoutError:
            text = "the kernel sends none: no CONFIG_PROC_EVENTS, or not in the first pid namespace"
            raise OSError(errno.ENODATA, text) from None
        if refusal:
            raise OSError(refusal, "needs CAP_NET_ADMIN")
        # Only now: the kernel's confirmation would not pass it.
        _attach_filter(self._socket)
        self._socket.setblocking(False)

    def _order(self, what: int) -> None:
        order = struct.pack("=I", what)
        body = _CN_MSG.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, len(order), 0) + order
        size = _HEADER.size + len(body)
        self._socket.send(_HEADER.pack(size, _NLMSG_DONE, 0, 0, os.getpid()) + body)

    def _confirmation(self) -> int:
        """The errno that the kernel answers the subscription with. Raises TimeoutError."""
        while True:
            size, sender = self._socket.recvfrom_into(self._packet)
            if sender[0] == _KERNEL and size >= _EVENT.size:
                _, _, what, status, *_ = _EVENT.unpack_from(self._packet)
                if what == _NONE:
                    return int(status)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    def drain(self, listener: ProcessListener) -> None:
        """Tell what has come, or a good part of it, without waiting. Raises OSError."""
        receive, packet = self._socket.recvfrom_into, self._packet
        for _ in range(_BATCH):
            try:
                size, sender = receive(packet)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                listener.lost()
                continue
            if sender[0] == _KERNEL:
                tell(packet, size, listener)

    def close(self) -> None:
        """End the subscription."""
        # A kernel before 6.6 goes on to make events for nobody if it is not told.
        with contextlib.suppress(OSError):
            self._order(_IGNORE)
        self._socket.close()


def _enlarge(connection: socket.socket) -> None:
    """A large receive buffer: beyond the limit of the system if we may."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


_SO_ATTACH_FILTER = 26
_LOAD, _EQUAL, _EQUAL_X, _TO_X, _RETURN = 0x20, 0x15, 0x1D, 0x07, 0x06  # linux/bpf_common.h
_WHAT_AT, _CHILD_AT, _CHILD_TGID_AT = 36, 60, 64
_ALL = 0xFFFFFFFF


def _attach_filter(connection: socket.socket) -> None:
    """Let the kernel drop what `tell` would; where it cannot, `tell` does."""
    program = [
        (_LOAD, 0, 0, _WHAT_AT),
        (_EQUAL, 6, 0, socket.htonl(_EXIT)),
        (_EQUAL, 5, 0, socket.htonl(_EXEC)),
        (_EQUAL, 0, 5, socket.htonl(_FORK)),
        (_LOAD, 0, 0, _CHILD_AT),
        (_TO_X, 0, 0, 0),
        (_LOAD, 0, 0, _CHILD_TGID_AT),
        (_EQUAL_X, 0, 1, 0),
        (_RETURN, 0, 0, _ALL),
        (_RETURN, 0, 0, 0),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = create_string_buffer(code, len(code))
    with contextlib.suppress(OSError):
        connection.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("@HP", len(program), addressof(buffer)),
        )
