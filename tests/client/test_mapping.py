"""Mappings of ordinary files: what holds for mmap holds for them."""

import os
from pathlib import Path

import pytest

from anonfs.client import Client, ClientError, Mapping, connect


@pytest.fixture
def client(fake_mount: Path) -> Client:
    return connect(fake_mount)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_whoever_comes_first_makes_the_file(client: Client) -> None:
    with client.map("x", 8192) as first, client.map("x", 8192) as second:
        first[:2] = b"hi"
        assert second[:2] == b"hi"
        assert first.name == second.name == "x"
    assert client.path("x").stat().st_mode & 0o777 == 0o600


def test_without_a_size_all_of_it_is_mapped(client: Client) -> None:
    client.create("x", 5000).close()
    with client.map("x") as shared:
        assert len(shared) == 5000


def test_a_short_file_grows_and_a_long_one_stays(client: Client) -> None:
    client.map("x", 4096).close()
    with client.map("x", 8192) as shared:
        assert len(shared) == 8192
    with client.map("x", 100) as shared:
        assert (len(shared), shared.size()) == (100, 8192)


def test_an_offset_is_a_part_of_the_file(client: Client) -> None:
    with client.map("x", 4096, offset=8192) as part, client.map("x") as whole:
        part[0] = 7
        assert whole[8192] == 7
        assert len(whole) == 3 * 4096


def test_read_only_neither_creates_nor_grows(client: Client) -> None:
    with pytest.raises(FileNotFoundError):
        client.map("x", 4096, read_only=True)
    client.create("x", 4096).close()
    with pytest.raises(ClientError, match="has 4096 bytes, not 8192"):
        client.map("x", 8192, read_only=True)
    with client.map("x", read_only=True) as shared, pytest.raises(TypeError):
        shared[0] = 1


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_cannot_be_mapped(client: Client, size: int) -> None:
    client.create("x", 4096).close()
    with pytest.raises(ClientError, match="cannot be mapped"):
        client.map("x", size)


def test_nameless_memory_leaves_no_name(client: Client) -> None:
    with client.anonymous(4096) as shared:
        assert client.list() == []
        assert shared.name is None
        assert os.fstat(shared.fileno()).st_nlink == 0
        assert os.fstat(shared.fileno()).st_mode & 0o777 == 0o600


def test_memory_is_shared_across_fork(client: Client) -> None:
    with client.anonymous(4096) as shared:
        child = os.fork()
        if child == 0:
            shared[0] = os.fstat(shared.fileno()).st_size >> 12
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert shared[0] == 1


def test_every_descriptor_is_closed(client: Client) -> None:
    before = descriptors()
    shared = client.map("x", 4096)
    shared.close()
    shared.close()
    assert descriptors() == before
    with pytest.raises(ValueError, match="mapping is closed"):
        shared.fileno()


def test_a_forgotten_mapping_closes_its_descriptor(client: Client) -> None:
    before = descriptors()
    shared: Mapping | None = client.map("x", 4096)
    assert shared is not None
    del shared
    assert descriptors() == before


def test_memory_in_use_stays(client: Client) -> None:
    shared = client.map("x", 4096)
    view = memoryview(shared)
    with pytest.raises(BufferError):
        shared.close()
    assert os.fstat(shared.fileno()).st_size == 4096
    view.release()
    shared.close()


def test_growing_never_shortens(client: Client) -> None:
    with client.create("x", 4096) as file:
        file.grow(12288)
        file.grow(8192)
        assert file.size == 12288


def test_processes_that_grow_one_file_agree(client: Client) -> None:
    children = []
    for number in range(1, 9):
        child = os.fork()
        if child == 0:
            shared = client.map("x", 4096 * number)
            shared[4096 * number - 1] = number
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    with client.map("x") as shared:
        assert [shared[4096 * number - 1] for number in range(1, 9)] == list(range(1, 9))


def test_it_says_what_it_is(client: Client) -> None:
    shared = client.map("x", 4096)
    assert repr(shared) == "<Mapping 'x', 4096 bytes at 0>"
    shared.close()
    assert repr(shared) == "<Mapping 'x', closed>"
