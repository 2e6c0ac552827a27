"""Swap-out on request, on a real mount: PTEs cleared for all mappers, contents kept."""

import ctypes
import mmap
import multiprocessing
import os
import struct
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from anonfs.client import Client, Mapping, connect
from anonfs.units import PAGE_SIZE
from tests.posix.children import eventually
from tests.support.mounts import Mounted

_PRESENT = 1 << 63
_FORK = multiprocessing.get_context("fork")


@pytest.fixture
def client(shared_mount: Path) -> Client:
    return Client(shared_mount)


@pytest.fixture
def alone(mounted: Mounted) -> Client:
    """The client of a mount where nobody else has files."""
    return connect(mounted.path)


def loaded_ptes(memory: Mapping) -> int:
    """How many pages of the mapping have a PTE in this process, as the kernel says."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    pages = len(memory) // PAGE_SIZE
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(address // PAGE_SIZE * 8)
        entries = struct.unpack(f"{pages}Q", pagemap.read(pages * 8))
    return sum(1 for entry in entries if entry & _PRESENT)


def fill(memory: Mapping) -> None:
    for page in range(len(memory) // PAGE_SIZE):
        memory[page * PAGE_SIZE : page * PAGE_SIZE + 8] = struct.pack("Q", page + 1)


def check(memory: Mapping) -> None:
    for page in range(len(memory) // PAGE_SIZE):
        found = memory[page * PAGE_SIZE : page * PAGE_SIZE + 8]
        assert struct.unpack("Q", found) == (page + 1,)


def test_all_pages_leave_the_page_tables_and_core_and_come_back(client: Client) -> None:
    with client.map("a", 2 << 20) as memory:
        fill(memory)
        assert loaded_ptes(memory) == 512
        memory.swap_out()
        assert loaded_ptes(memory) == 0
        pages = memory.inspect().pages
        assert (pages.in_core, pages.on_swap) == (0, 512)
        check(memory)


def test_pages_that_were_dirty_are_not_counted_as_loaded_any_more(alone: Client) -> None:
    with alone.map("a", 2 << 20) as memory:
        fill(memory)
        assert alone.meminfo().loaded >= 2 << 20
        memory.swap_out()
        assert alone.meminfo().loaded == 0


def test_a_long_list_is_read_with_one_large_read(mounted: Mounted) -> None:
    """Its answer is larger than what a socket takes by default."""
    path = mounted.path / "f"
    with path.open("wb") as file:
        for number in range(0, 20_000, 2):
            os.pwrite(file.fileno(), b"x", number * PAGE_SIZE)
        listed = mounted.path / ".anonfs/inodes" / str(path.stat().st_ino) / "pagemap"
        with listed.open("rb", buffering=0) as tree:
            text = b""
            while piece := tree.read(1 << 20):
                text += piece
    assert text.count(b"\n") == 19_999


def test_a_range_leaves_the_other_pages_alone(client: Client) -> None:
    with client.map("a", 64 * PAGE_SIZE) as memory:
        fill(memory)
        memory.flush()
        memory.swap_out(8, 15)
        runs = [(run.first, run.last, run.state) for run in memory.inspect().runs]
        assert runs == [(0, 7, "in_core"), (8, 15, "on_swap"), (16, 63, "in_core")]
        assert loaded_ptes(memory) == 56
        check(memory)


def hold(memory: Mapping, pipe: "Connection[object, str]") -> None:
    check(memory)
    while (order := pipe.recv()) != "leave":
        if order == "count":
            pipe.send(loaded_ptes(memory))
        elif order == "check":
            check(memory)
            pipe.send("right")


def test_the_ptes_of_every_mapper_are_cleared(client: Client) -> None:
    memory = client.anonymous(64 * PAGE_SIZE)
    fill(memory)
    pipes = []
    for _ in range(3):
        ours, theirs = _FORK.Pipe()
        child = _FORK.Process(target=hold, args=(memory, theirs), daemon=True)
        child.start()
        pipes.append((child, ours))

    def ask(order: str) -> list[object]:
        for _, pipe in pipes:
            pipe.send(order)
        return [pipe.recv() for _, pipe in pipes if pipe.poll(20)]

    assert ask("count") == [64, 64, 64]
    memory.swap_out()
    assert ask("count") == [0, 0, 0]
    assert memory.inspect().pages.on_swap == 64
    assert ask("check") == ["right"] * 3
    for child, pipe in pipes:
        pipe.send("leave")
        child.join(20)
    memory.close()


@pytest.mark.parametrize(
    "value", [b"", b"x", b"5", b"5-2", b"0-64", b"-1-2", b"1-2-3", b"0-" + b"9" * 40]
)
def test_a_value_that_is_no_range_of_pages_is_einval(client: Client, value: bytes) -> None:
    with client.map("a", 64 * PAGE_SIZE) as memory, pytest.raises(OSError) as caught:
        os.setxattr(memory.fileno(), "user.anonfs.swapout", value)
    assert caught.value.errno == 22


def test_it_can_be_written_but_not_read_and_the_others_the_other_way(client: Client) -> None:
    with client.map("a", PAGE_SIZE) as memory:
        names = set(os.listxattr(memory.fileno()))
        read_only = ("kind", "pages", "reserved", "pagemap", "ring", "count", "attaches")
        copies = ("parent", "front")
        assert names == {
            f"user.anonfs.{name}" for name in (*read_only, *copies, "lock", "reap", "swapout")
        }
        with pytest.raises(PermissionError):
            os.getxattr(memory.fileno(), "user.anonfs.swapout")
        for name in read_only:
            with pytest.raises(PermissionError):
                os.setxattr(memory.fileno(), f"user.anonfs.{name}", b"x")
            with pytest.raises(PermissionError):
                os.removexattr(memory.fileno(), f"user.anonfs.{name}")


def test_pages_that_change_meanwhile_keep_their_last_contents(client: Client) -> None:
    with client.map("a", 256 * PAGE_SIZE) as memory:
        stop = threading.Event()
        counts = [0]

        def change() -> None:
            while not stop.is_set():
                counts[0] += 1
                for page in range(0, 256, 16):
                    memory[page * PAGE_SIZE : page * PAGE_SIZE + 8] = struct.pack("Q", counts[0])

        changing = threading.Thread(target=change)
        changing.start()
        try:
            for _ in range(30):
                memory.swap_out()
        finally:
            stop.set()
            changing.join()
        memory.swap_out()
        for page in range(0, 256, 16):
            found = memory[page * PAGE_SIZE : page * PAGE_SIZE + 8]
            assert struct.unpack("Q", found) == (counts[0],)


def test_an_inode_that_was_swapped_out_is_freed_with_its_last_user(
    alone: Client, mounted: Mounted
) -> None:
    before = os.statvfs(mounted.path).f_bfree
    memory = alone.anonymous(64 * PAGE_SIZE)
    fill(memory)
    memory.swap_out()
    assert os.statvfs(mounted.path).f_bfree == before - 64
    memory.close()
    eventually(lambda: os.statvfs(mounted.path).f_bfree == before, "its pages are free")


def test_a_private_mapping_keeps_its_own_pages(client: Client) -> None:
    with client.create("a", 4 * PAGE_SIZE) as file:
        private = mmap.mmap(file.fileno(), 4 * PAGE_SIZE, flags=mmap.MAP_PRIVATE)
        private[0:4] = b"mine"
        file.swap_out()
        assert private[0:4] == b"mine"
        assert os.pread(file.fileno(), 4, 0) == bytes(4)
        private.close()
