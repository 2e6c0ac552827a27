"""userfaultfds of real processes, read by nobody but the test."""

import mmap
import os
import select
import signal
import socket

import pytest

from anonfs.client import new_userfaultfd
from anonfs.units import PAGE_SIZE
from anonfsd._userfaultfd import Event, Fork, _protect, prepare, read_events, register, shows_in
from tests.posix.children import SECONDS, Child, fork, hear, say
from tests.posix.memory import Mapping

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has forks reported")


def _events(descriptor: int) -> list[Event]:
    assert select.select([descriptor], [], [], SECONDS)[0]
    return read_events(descriptor)


def test_a_child_that_was_forked_while_a_page_was_protected_is_not_mistaken_for_its_parent() -> (
    None
):
    ours, theirs = socket.socketpair()

    def program() -> None:
        mapping = Mapping(-1, PAGE_SIZE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        mapping.write(0, b"loaded")
        socket.send_fds(theirs, [b"f"], [new_userfaultfd()])
        say(mapping.address)
        hear()
        pid = fork()
        if pid == 0:
            signal.pause()
        say(pid)
        hear()

    with ours, theirs, Child(program) as child:
        address = child.said()
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
        prepare(descriptor)
        register(descriptor, address, address + PAGE_SIZE)
        _protect(descriptor, address, 1)
        child.tell()
        events = _events(descriptor)
        grandchild = child.said()
        _protect(descriptor, address, 0)
        assert shows_in(descriptor, address, [grandchild, child.pid]) == [child.pid]
        for event in events:
            assert isinstance(event, Fork)
            assert shows_in(event.descriptor, address, [child.pid, grandchild]) == [grandchild]
            os.close(event.descriptor)
        os.close(descriptor)
