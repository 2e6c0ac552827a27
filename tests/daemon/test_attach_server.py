"""The socket at which descriptors are handed over, with nobody who takes them behind it."""

import os
import select
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from anonfsd import _attach_server
from anonfsd._attach_server import AttachServer

_SECONDS = 60.0
_WHILE = 0.6
"""Seconds in which nothing must happen."""


class SlowFronts:
    """Puts overlays over their fronts once its ``gate`` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    @staticmethod
    def is_discarding(_uid: int) -> bool:
        return False

    def overlay(self, handed: tuple[int, int], _uid: int) -> None:
        assert self.gate.wait(_SECONDS)
        for descriptor in handed[:2]:
            os.close(descriptor)


def _served(fronts: SlowFronts, request: bytes, hear: Callable[[socket.socket], bytes]) -> bytes:
    """What ``hear`` returns, for a connection by which a request was sent, if it is one."""
    anything: Any = fronts

    async def main() -> bytes:
        server = AttachServer(None, anything, anything)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(_SECONDS)
            connection.connect("\0" + server.name[1:])
            if request:
                socket.send_fds(connection, [request], [connection.fileno()] * 2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve)
                heard = await trio.to_thread.run_sync(hear, connection)
                nursery.cancel_scope.cancel()
        return heard

    return trio.run(main)


def test_who_asks_nothing_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_attach_server, "_ASK_SECONDS", 0.05)
    assert _served(SlowFronts(), b"", lambda connection: connection.recv(4)) == b""


def test_who_has_asked_is_answered_however_slow_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_attach_server, "_ASK_SECONDS", _WHILE / 2)
    monkeypatch.setattr(_attach_server, "_ANSWER_SECONDS", _SECONDS)
    fronts = SlowFronts()

    def hear(connection: socket.socket) -> bytes:
        assert not select.select([connection], [], [], _WHILE)[0]
        fronts.gate.set()
        return connection.recv(4)

    assert _served(fronts, b"overlay", hear) == bytes(4)
