"""What the sockets between the request threads and pyfuse3 take, and what FUSE_INIT settles."""

import os
import socket
import struct
from typing import Any

import pytest

from anonfsd._connection import Connection, _never_congested


@pytest.mark.parametrize("size", [1, 70_000, 400_000])
def test_large_messages_either_way(size: int) -> None:
    nothing: Any = None
    connection = Connection(-1, nothing, nothing, None, nothing)
    ours, theirs = connection._ours, socket.socket(fileno=os.dup(connection._theirs))
    message = os.urandom(size)
    for sender, receiver in ((ours, theirs), (theirs, ours)):
        sender.setblocking(False)
        assert sender.send(message) == size
        assert receiver.recv(size + 1) == message
    ours.close()
    theirs.close()
    os.close(connection._theirs)


def test_an_end_that_is_told_after_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """libfuse ends a session that there is; of none it would write to address 8."""
    told: list[str] = []
    monkeypatch.setattr("pyfuse3.terminate", lambda: told.append("terminate"))
    monkeypatch.setattr("pyfuse3.close", lambda *, unmount: told.append(f"close {unmount}"))
    nothing: Any = None
    connection = Connection(-1, nothing, nothing, None, nothing)
    connection.stop()
    connection.close()
    connection.stop()
    assert told == ["terminate", "close False"]
    connection._ours.close()
    os.close(connection._theirs)


def test_write_back_is_never_congested() -> None:
    """Of the reply to FUSE_INIT nothing else changes."""
    header, before = struct.pack("=IiQ", 80, 0, 1), struct.pack("=IIII", 7, 36, 1 << 17, 0xF00)
    limits, after = struct.pack("=HH", 12, 9), os.urandom(44)
    changed = _never_congested(header + before + limits + after)
    assert changed == header + before + struct.pack("=HH", 12, 0xFFFF) + after
