"""Attached processes: what the kernel reports of them, and who may attach what."""

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from anonfs.client import Client, new_userfaultfd
from anonfs.client import Mapping as ClientMapping
from anonfs.client._attach import attach
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import areas_in_proc, ring_in_order
from tests.posix.children import SECONDS, STRANGER, Child, eventually, fork, hear, say
from tests.posix.memory import Mapping, map_nothing_over, remap, room_for, unmap
from tests.support.mounts import Mounted
from tests.support.programs import environment, python

_PAGES = 64

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon has forks reported")


def _address(mapping: ClientMapping) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


def _program(mount: Path, then: Callable[[int], None]) -> None:
    """Maps the file f, attached, and goes on with its address."""
    with Client(mount).map("f", _PAGES * PAGE_SIZE) as mapping:
        address = _address(mapping)
        say(address)
        hear()
        then(address)
        say("done")
        hear()
        os._exit(0)


@contextlib.contextmanager
def _running(mount: Path, then: Callable[[int], None]) -> Iterator[tuple[Child, int]]:
    with Child(_program, mount, then) as child:
        address = child.said()
        assert ring_in_order(mount / "f") == areas_in_proc(mount / "f", [child.pid])
        child.tell()
        assert child.said() == "done"
        yield child, address


def test_a_client_attaches_what_it_maps(shared_mount: Path) -> None:
    with _running(shared_mount, lambda _address: None) as (child, _):
        assert [area.how for area in ring_in_order(shared_mount / "f")] == ["attached"]
        child.kill()
        child.wait()
        eventually(lambda: not ring_in_order(shared_mount / "f"), "SIGKILL takes the areas")


def test_attach_can_be_left_out(shared_mount: Path) -> None:
    with Client(shared_mount).map("f", PAGE_SIZE, attach=False):
        assert [area.how for area in ring_in_order(shared_mount / "f")] == ["observed"]


@pytest.mark.parametrize(
    ("first", "count"), [(0, 3), (20, 4), (_PAGES - 5, 5), (0, _PAGES)], ids=str
)
def test_a_partialunmap(shared_mount: Path, first: int, count: int) -> None:
    def then(address: int) -> None:
        unmap(address + first * PAGE_SIZE, count * PAGE_SIZE)

    with _running(shared_mount, then) as (child, _):
        assert ring_in_order(shared_mount / "f") == areas_in_proc(shared_mount / "f", [child.pid])


def test_something_else_is_mapped_over_a_part(shared_mount: Path) -> None:
    def then(address: int) -> None:
        map_nothing_over(address + 8 * PAGE_SIZE, PAGE_SIZE)

    with _running(shared_mount, then) as (child, _):
        ring = ring_in_order(shared_mount / "f")
        assert len(ring) == 2
        assert ring == areas_in_proc(shared_mount / "f", [child.pid])


@pytest.mark.parametrize("pages", [4, 8, 2], ids=["moved", "grown", "shrunk"])
def test_a_part_is_remapped(shared_mount: Path, pages: int) -> None:
    def then(address: int) -> None:
        # A place of its own asks for a move whatever the size.
        to = room_for(pages * PAGE_SIZE)
        remap(address + 16 * PAGE_SIZE, 4 * PAGE_SIZE, pages * PAGE_SIZE, to)

    with _running(shared_mount, then) as (child, _):
        ring = ring_in_order(shared_mount / "f")
        assert len(ring) == 3
        assert ring == areas_in_proc(shared_mount / "f", [child.pid])


def _generations(count: int, address: int, pids: list[int]) -> None:
    """Fork a child that forks a child that ..., each of which unmaps a page of its own."""
    reader, writer = os.pipe()
    if count == 0:
        return
    pid = fork()
    if pid == 0:
        unmap(address + count * 2 * PAGE_SIZE, PAGE_SIZE)
        below: list[int] = []
        _generations(count - 1, address, below)
        os.write(writer, b"".join(struct.pack("=i", one) for one in below) or b"\0")
        signal.pause()
    told = os.read(reader, 4096)
    pids += [pid, *(one for (one,) in struct.iter_unpack("=i", told if len(told) > 1 else b""))]


def test_forks_of_forks_with_partial_unmaps(shared_mount: Path) -> None:
    path = shared_mount / "f"

    def program() -> None:
        with Client(shared_mount).map("f", _PAGES * PAGE_SIZE) as mapping:
            pids: list[int] = []
            _generations(4, _address(mapping), pids)
            say(pids)
            hear()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            say("killed")
            hear()

    with Child(program) as child:
        pids = child.said()
        assert len(pids) == 4
        ring = ring_in_order(path)
        assert len(ring) == 1 + 2 + 3 + 4 + 5
        assert ring == areas_in_proc(path, [child.pid, *pids])
        child.tell()
        assert child.said() == "killed"
        eventually(lambda: len(ring_in_order(path)) == 1, "the children's areas are closed")


def test_exec_takes_the_areas(shared_mount: Path) -> None:
    def then(_address: int) -> None:
        say("done")
        hear()
        os.execvp("sleep", ["sleep", "60"])  # noqa: S606  no shell

    with Child(_program, shared_mount, then) as child:
        child.said()
        child.tell()
        assert child.said() == "done"
        assert ring_in_order(shared_mount / "f") == areas_in_proc(shared_mount / "f", [child.pid])
        child.tell()
        child.await_exec()
        assert ring_in_order(shared_mount / "f") == []


def test_a_process_that_has_unmapped_all_maps_anew_and_forks(shared_mount: Path) -> None:
    def program() -> None:
        fd = os.open(shared_mount / "f", os.O_CREAT | os.O_RDWR, 0o666)
        os.ftruncate(fd, PAGE_SIZE)
        for _ in range(2):
            mapping = Mapping(fd, PAGE_SIZE)
            assert attach(fd)
            pid = fork()
            if pid == 0:
                signal.pause()
            say(pid)
            hear()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            mapping.unmap()

    with Child(program) as child:
        for _ in range(2):
            pids = [child.pid, child.said()]
            ring = ring_in_order(shared_mount / "f")
            assert ring == areas_in_proc(shared_mount / "f", pids)
            child.tell()


def test_a_mapping_that_grows_stays_attached(shared_mount: Path) -> None:
    def program() -> None:
        with Client(shared_mount).map("f", 2 * PAGE_SIZE) as mapping:
            mapping.resize(_PAGES * PAGE_SIZE)
            unmap(_address(mapping), 2 * PAGE_SIZE)
            say("done")
            hear()

    with Child(program) as child:
        child.said()
        ring = ring_in_order(shared_mount / "f")
        assert ring == areas_in_proc(shared_mount / "f", [child.pid])
        assert [area.offset for area in ring] == [2 * PAGE_SIZE]


_MAPS = """
import pathlib, sys
from anonfs.client import Client
mapping = Client(pathlib.Path(sys.argv[1])).map("g", 4096)
print("mapped", flush=True)
sys.stdin.read()
"""


def test_a_program_attaches_after_an_attached_one_has_called_exec(shared_mount: Path) -> None:
    with contextlib.ExitStack() as pipes:
        (stdin, _), (stdout, told) = (_pipe(pipes) for _ in range(2))

        def then(_address: int) -> None:
            os.dup2(stdin, 0)
            os.dup2(told, 1)
            os.execve(sys.executable, python("-c", _MAPS, shared_mount), environment())  # noqa: S606

        with Child(_program, shared_mount, then) as child:
            child.said()
            child.tell()
            child.await_exec()
            assert select.select([stdout], [], [], SECONDS)[0]
            ring = ring_in_order(shared_mount / "g")
            assert ring == areas_in_proc(shared_mount / "g", [child.pid])


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def _socket_name(place: Path) -> str:
    tree = next(one / ".anonfs" for one in (place, place.parent) if (one / ".anonfs").exists())
    return (tree / "socket").read_text("ascii").strip()


def _ask(mount: Path | str, data: bytes, *descriptors: int) -> int:
    name = mount if isinstance(mount, str) else _socket_name(mount)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(10)
        connection.connect("\0" + name[1:])
        with contextlib.suppress(BrokenPipeError):  # it is answered, and closed, before it is read
            socket.send_fds(connection, [data], list(descriptors))
        return int.from_bytes(connection.recv(4), "little")


def test_bad_requests_are_refused(shared_mount: Path) -> None:
    fd = os.open(shared_mount / "f", os.O_CREAT | os.O_RDWR, 0o666)
    os.ftruncate(fd, PAGE_SIZE)
    assert _ask(shared_mount, b"attach") == errno.ESRCH
    assert _ask(shared_mount, b"what?") == errno.EINVAL
    assert _ask(shared_mount, b"attach", fd) == errno.EINVAL
    assert _ask(shared_mount, b"attach", fd, fd, fd) == errno.EINVAL
    descriptor = new_userfaultfd()
    assert _ask(shared_mount, b"attach", descriptor) == errno.ENOENT  # it maps nothing
    os.close(descriptor)
    os.close(fd)


def test_the_userfaultfd_of_another_process_is_refused(shared_mount: Path) -> None:
    fd = os.open(shared_mount / "f", os.O_CREAT | os.O_RDWR, 0o666)
    os.ftruncate(fd, PAGE_SIZE)
    mapping = Mapping(fd, PAGE_SIZE)
    descriptor, name = new_userfaultfd(), _socket_name(shared_mount)

    def stranger() -> int:
        # It has the same addresses mapped, by fork, and hands over its parent's descriptor.
        return _ask(name, b"attach", descriptor)

    with Child(stranger, user=STRANGER) as child:
        assert child.said() == errno.EPERM
    assert {area.how for area in ring_in_order(shared_mount / "f")} == {"observed"}
    mapping.unmap()
    os.close(descriptor)
    os.close(fd)


def test_slow_clients_and_many_of_them(shared_mount: Path) -> None:
    name = _socket_name(shared_mount)
    connections = []
    for _ in range(60):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(10)
        connection.connect("\0" + name[1:])
        connections.append(connection)
    answers = [connection.recv(4) for connection in connections]
    assert sum(answer == struct.pack("=i", errno.EAGAIN) for answer in answers) >= 30
    for connection in connections:
        connection.close()
    eventually(lambda: _ask(name, b"attach") == errno.ESRCH, "there is room for more")
    with _running(shared_mount, lambda _address: None):
        pass


@pytest.fixture
def own_mount(can_mount: None) -> Iterator[Mounted]:
    del can_mount
    with Mounted() as mounted:
        yield mounted


def test_files_that_cannot_be_closed_take_no_more_than_their_share(own_mount: Mounted) -> None:
    name = _socket_name(own_mount.path)
    with Mounted() as hanging:
        fd = os.open(hanging.path / "f", os.O_CREAT | os.O_RDWR)
        hanging.hang()
        try:
            answers = [_ask(name, b"attach", fd, fd) for _ in range(20)]
        finally:
            os.kill(hanging.process.pid, signal.SIGCONT)
        assert answers.count(errno.EINVAL) == 8
        assert answers.count(errno.EAGAIN) == 12
        os.close(fd)
    eventually(lambda: _ask(name, b"attach") == errno.ESRCH, "all are closed")
    with _running(own_mount.path, lambda _address: None):
        pass


def test_a_client_that_dies_before_its_answer_leaves_nothing(own_mount: Mounted) -> None:
    descriptors = Path(f"/proc/{own_mount.process.pid}/fd")

    def dies() -> None:
        fd = os.open(own_mount.path / "f", os.O_CREAT | os.O_RDWR, 0o666)
        os.ftruncate(fd, PAGE_SIZE)
        mapping = Mapping(fd, PAGE_SIZE)
        assert mapping
        name = _socket_name(own_mount.path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect("\0" + name[1:])
            socket.send_fds(connection, [b"attach"], [new_userfaultfd()])
            os.kill(os.getpid(), signal.SIGKILL)

    def userfaultfds() -> int:
        return sum("userfaultfd" in str(one.readlink()) for one in descriptors.iterdir())

    for _ in range(10):
        with Child(dies) as child:
            child.wait()
    eventually(lambda: not ring_in_order(own_mount.path / "f"), "no areas are left")
    eventually(lambda: userfaultfds() == 0, "no descriptors are left")


def test_a_failing_attach_is_no_failure(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        assert attach(file.fileno()) is False
