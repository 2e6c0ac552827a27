"""Fifos, sockets and devices: names in the mount, used through it."""

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.posix.children import Child, hear, say
from tests.posix.reference import as_on_tmpfs, facts, outcome, times_changed


@as_on_tmpfs
def test_every_kind_of_node(directory: Path) -> object:
    record = {}
    for name, kind in {
        "regular": stat.S_IFREG,
        "none": 0,
        "fifo": stat.S_IFIFO,
        "socket": stat.S_IFSOCK,
        "directory": stat.S_IFDIR,
        "link": stat.S_IFLNK,
        "nonsense": 0o150000,
    }.items():
        path = directory / name
        call = outcome(os.mknod, path, kind | 0o640)
        record[name] = call, facts(path), outcome(os.mknod, path, kind | 0o640)
    return record


@pytest.mark.usefixtures("as_root")
@as_on_tmpfs
def test_device_nodes_have_their_numbers(directory: Path) -> object:
    os.mknod(directory / "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(directory / "b", stat.S_IFBLK | 0o600, os.makedev(259, 300_000))
    return facts(directory / "c"), facts(directory / "b")


def test_devices_do_not_open(shared_mount: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device node")
    os.mknod(shared_mount / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert outcome(os.open, shared_mount / "null", os.O_RDWR) == "EACCES"


def test_a_fifo_between_two_processes(shared_mount: Path) -> None:
    fifo = shared_mount / "fifo"
    os.mkfifo(fifo)

    def write() -> int:
        with fifo.open("wb") as pipe:
            return pipe.write(b"through" * 20_000)

    with Child(write) as child:
        with fifo.open("rb") as pipe:
            assert pipe.read() == b"through" * 20_000
        assert child.said() == 140_000
    assert fifo.stat().st_size == 0


def test_a_socket_between_two_processes(shared_mount: Path) -> None:
    here = Path.cwd()
    os.chdir(shared_mount)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            listener.listen()
            with pytest.raises(OSError, match="in use"), socket.socket(socket.AF_UNIX) as second:
                second.bind("socket")

            def call() -> bytes:
                with socket.socket(socket.AF_UNIX) as caller:
                    caller.connect("socket")
                    caller.sendall(b"hello")
                    return caller.recv(100)

            with Child(call) as child:
                peer, _ = listener.accept()
                with peer:
                    assert peer.recv(100) == b"hello"
                    peer.sendall(b"welcome")
                assert child.said() == b"welcome"
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect("socket")
    finally:
        os.chdir(here)


@as_on_tmpfs
def test_attributes_of_nodes(directory: Path) -> object:
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    return [
        times_changed(lambda: fifo.chmod(0o604), fifo),
        facts(fifo),
        outcome(os.truncate, fifo, 0),
        times_changed(lambda: (directory / "second").hardlink_to(fifo), fifo, directory),
        facts(fifo),
        times_changed(fifo.unlink, directory / "second"),
        facts(directory / "second"),
    ]


def test_a_program_in_the_mount_runs(shared_mount: Path) -> None:
    program = shared_mount / "program"
    program.write_text("#!/bin/sh\necho ran $0\n", encoding="ascii")
    program.chmod(0o755)

    def run() -> None:
        say(hear())
        os.execv(program, ["program"])  # noqa: S606  no shell

    with Child(run) as child:
        child.tell("go")
        assert child.said() == "go"
        assert child.wait() == 0
