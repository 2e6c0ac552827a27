"""The proc connector: crafted packets, and the real thing with real processes."""

import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from anonfsd import _proc_events
from anonfsd._proc_events import ProcConnector, tell

FORK, EXEC, COMM, EXIT = 1, 2, 0x200, 0x80000000
SECONDS = 20.0


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.forks: list[tuple[int, int]] = []
        self.execs: list[int] = []
        self.exits: list[tuple[int, int]] = []
        self.order: list[str] = []
        self.losses = 0

    def forked(self, parent: int, child: int) -> None:
        self.forks.append((parent, child))
        self.order.append(f"fork {child}")

    def execed(self, pid: int) -> None:
        self.execs.append(pid)
        self.order.append(f"exec {pid}")

    def exited(self, thread: int, pid: int) -> None:
        self.exits.append((thread, pid))
        self.order.append(f"exit {thread}")

    def lost(self) -> None:
        self.losses += 1

    @property
    def nothing(self) -> bool:
        return not self.order and not self.losses


def packet(what: int, *words: int, index: int = 1, value: int = 1) -> bytes:
    """A datagram as the kernel makes it: always with room for the largest event."""
    data = struct.pack("=6I", *(words + (0,) * (6 - len(words))))
    event = struct.pack("=IIQ", what, 1, 12345) + data
    message = struct.pack("=IIIIHH", index, value, 7, 0, len(event), 0) + event
    return struct.pack("=IHHII", 16 + len(message), 3, 0, 7, 0) + message


def told(*packets: bytes) -> Heard:
    heard = Heard()
    for one in packets:
        tell(one, len(one), heard)
    return heard


def test_the_events_of_processes_are_told() -> None:
    heard = told(
        packet(FORK, 101, 100, 200, 200), packet(EXEC, 200, 200), packet(EXIT, 200, 200, 9)
    )
    assert heard.order == ["fork 200", "exec 200", "exit 200"]
    assert (heard.forks, heard.execs, heard.exits) == ([(100, 200)], [200], [(200, 200)])


def test_a_new_thread_is_no_fork() -> None:
    # Its parent is the parent of its process.
    assert told(packet(FORK, 1, 1, 201, 200)).nothing
    assert told(packet(FORK, 200, 200, 201, 200)).nothing


def test_the_end_of_a_thread_names_its_process() -> None:
    assert told(packet(EXIT, 201, 200)).exits == [(201, 200)]


@pytest.mark.parametrize(
    "ignored",
    [
        packet(COMM, 200, 200),
        packet(0, 0),
        packet(FORK, 100, 100, 200, 200, index=2),
        packet(FORK, 100, 100, 200, 200, value=2),
        packet(FORK, 100, 100, 200, 200)[:67],
        b"",
    ],
)
def test_what_is_no_event_of_interest_is_ignored(ignored: bytes) -> None:
    assert told(ignored).nothing


def test_a_buffer_is_read_as_far_as_it_was_filled() -> None:
    heard = Heard()
    tell(bytearray(packet(EXIT, 200, 200)), 40, heard)
    assert heard.nothing


def test_parsing_is_cheap() -> None:
    heard, one = Heard(), packet(FORK, 1, 1, 201, 200)
    begin = time.process_time()
    for _ in range(20_000):
        tell(one, len(one), heard)
    assert time.process_time() - begin < 1  # 12 ms where it was written


class Connection:
    """A netlink socket that receives what it is told to."""

    def __init__(self, *arrivals: bytes | OSError, port: int = 0) -> None:
        self.arrivals = list(arrivals)
        self.port = port

    def recvfrom_into(self, buffer: bytearray) -> tuple[int, tuple[int, int]]:
        if not self.arrivals:
            raise BlockingIOError
        arrival = self.arrivals.pop(0)
        if isinstance(arrival, OSError):
            raise arrival
        buffer[: len(arrival)] = arrival
        return len(arrival), (self.port, 1)


def drained(connection: Connection) -> Heard:
    heard = Heard()
    ProcConnector(connection).drain(heard)  # type: ignore[arg-type]
    return heard


def test_an_overflow_is_told_and_the_rest_is_read() -> None:
    heard = drained(Connection(OSError(105, "ENOBUFS"), packet(EXEC, 200, 200)))
    assert (heard.losses, heard.execs) == (1, [200])


def test_what_did_not_come_from_the_kernel_is_ignored() -> None:
    assert drained(Connection(packet(EXEC, 200, 200), port=4711)).nothing


def test_a_socket_that_fails_is_no_overflow() -> None:
    with pytest.raises(OSError, match="EBADF"):
        drained(Connection(OSError(9, "EBADF")))


def test_a_drain_comes_to_an_end() -> None:
    connection = Connection(*[packet(EXEC, 200, 200)] * 10_000)
    assert 0 < len(drained(connection).execs) < 10_000


# -- the kernel's own -----------------------------------------------------------------------


@pytest.fixture
def connector() -> Iterator[ProcConnector]:
    if os.geteuid() != 0:
        pytest.skip("process events are for root")
    connector = ProcConnector.subscribe()
    yield connector
    connector.close()


def hear_until(connector: ProcConnector, heard: Heard, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        left = deadline - time.monotonic()
        assert left > 0, heard.order
        if select.select([connector], [], [], left)[0]:
            connector.drain(heard)


def test_a_program_is_forked_executed_and_ended(connector: ProcConnector) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    heard, end = Heard(), (child.pid, child.pid)
    hear_until(connector, heard, lambda: end in heard.exits)
    assert (os.getpid(), child.pid) in heard.forks
    mine = [line for line in heard.order if line.split()[1] == str(child.pid)]
    assert mine == [f"{what} {child.pid}" for what in ("fork", "exec", "exit")]


def test_threads_begin_unheard_and_end_with_their_process(connector: ProcConnector) -> None:
    ids: list[int] = []
    thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
    thread.start()
    thread.join()
    heard = Heard()
    hear_until(connector, heard, lambda: (ids[0], os.getpid()) in heard.exits)
    assert ids[0] not in [child for _, child in heard.forks]


def test_an_overflow_of_the_kernels_queue_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("process events are for root")
    monkeypatch.setattr(_proc_events, "_RECEIVE_BUFFER", 4096)
    connector = ProcConnector.subscribe()
    try:
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        heard = Heard()
        hear_until(connector, heard, lambda: heard.losses > 0)
    finally:
        connector.close()


_SUBSCRIBE = """
from anonfsd._proc_events import ProcConnector
try:
    ProcConnector.subscribe()
except OSError as error:
    print(error.strerror)
"""


def test_another_network_namespace_is_told_apart() -> None:
    if os.geteuid() != 0:
        pytest.skip("a network namespace is made by root")
    ran = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", _SUBSCRIBE],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert ran.stdout == "the first network namespace alone has them\n"


def refused(monkeypatch: pytest.MonkeyPatch, **methods: Callable[..., object]) -> str:
    """What `subscribe` says when a method of its socket does something else."""
    broken = type("Broken", (socket.socket,), methods)
    monkeypatch.setattr(socket, "socket", broken)
    with pytest.raises(OSError) as caught:
        ProcConnector.subscribe()
    return str(caught.value.strerror)


def raising(error: OSError) -> Callable[..., object]:
    def method(*_arguments: object) -> object:
        raise error

    return method


def test_why_there_are_no_events_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, bind=raising(PermissionError(1, "no"))) == "needs CAP_NET_ADMIN"


def test_a_silent_kernel_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refused(
        monkeypatch,
        bind=lambda *_: None,
        send=lambda *_: 0,
        recvfrom_into=raising(TimeoutError()),
    )
    assert "CONFIG_PROC_EVENTS" in text


def test_a_kernel_without_the_connector_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", raising(OSError(93, "no")))
    with pytest.raises(OSError, match="CONFIG_CONNECTOR"):
        ProcConnector.subscribe()
