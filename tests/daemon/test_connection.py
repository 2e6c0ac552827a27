"""What the sockets between the request threads and pyfuse3 take."""

import os
import socket
from typing import Any

import pytest

from anonfsd._connection import Connection


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
