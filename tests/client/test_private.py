"""Private memory over ordinary files: what an mmap can do, and what of it a fork leaves alone."""

import errno
import faulthandler
import mmap
import os
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path

import pytest

from anonfs.client import Client, ClientError, PrivateMemory, _private, connect
from anonfs.client._addresses import Room, address_of
from anonfs.client._dup import dups
from anonfs.client._nameless import open_nameless
from anonfs.units import PAGE_SIZE
from tests.posix.children import Child, fork


def _copy(source: int, copy: int, *, quiet: bool) -> None:
    del quiet
    os.truncate(copy, os.fstat(source).st_size)
    os.pwrite(copy, os.pread(source, 1 << 20, 0), 0)


@pytest.fixture
def client(fake_mount: Path, attributes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Client:
    del attributes
    monkeypatch.setattr(_private, "clone_into", _copy)
    return connect(fake_mount)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_an_mmap(client: Client) -> None:
    before = _descriptors()
    with client.private(3 * PAGE_SIZE - 5) as memory:
        assert isinstance(memory, mmap.mmap)
        assert len(memory) == memory.size() == 3 * PAGE_SIZE - 5
        memory.write(b"hello")
        memory.seek(0)
        assert memory.read(5) == b"hello"
        assert memory.find(b"llo", 0) == 2
        memory.flush()
        memory.madvise(mmap.MADV_DONTNEED, 0, 1)
        assert memory[:5] == bytes(5)
        for advice in (10, 11, 18, 19):
            with pytest.raises(OSError, match="forks copy"):
                memory.madvise(advice)
        assert repr(memory) == "<PrivateMemory 12283 bytes>"
    memory.close()
    assert repr(memory) == "<PrivateMemory closed>"
    with pytest.raises(ValueError, match="closed"):
        memory.fileno()
    with pytest.raises(ValueError, match="closed"):
        memory.resize(1)
    assert _descriptors() == before
    assert client.list() == []


@pytest.mark.parametrize("size", [0, -1])
def test_nothing_cannot_be_mapped(client: Client, size: int) -> None:
    with pytest.raises(ClientError, match="cannot be mapped"):
        client.private(size)
    with client.private(1) as memory, pytest.raises(ClientError, match="cannot be mapped"):
        memory.resize(size)


def test_memory_in_use_stays_as_it_is(client: Client) -> None:
    with client.private(PAGE_SIZE) as memory:
        memory[0] = 1
        with memoryview(memory) as view:
            with pytest.raises(BufferError):
                memory.close()
            with pytest.raises(BufferError):
                memory.resize(2 * PAGE_SIZE)
            assert view[0] == 1
        assert os.fstat(memory.fileno()).st_size == PAGE_SIZE


def test_it_goes_with_its_last_user(client: Client) -> None:
    before = _descriptors()
    memory = client.private(PAGE_SIZE)
    view = memoryview(memory)
    gone = weakref.ref(memory)
    del memory
    view[0] = 1
    assert gone() is not None
    view.release()
    del view
    assert gone() is None
    assert _descriptors() == before


def _in_child(memory: PrivateMemory) -> int:
    """How a child ends that writes to ``memory``."""
    pid = fork()
    if pid == 0:
        faulthandler.disable()
        status = 1
        try:
            assert memory[0] == 1
            memory[0] = 2
            os.fstat(memory.fileno())
            status = 0
        except ValueError:
            status = 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_where_there_is_no_nameless_file_a_name_is_taken_away(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def without(name: str, flags: int, mode: int, *, dir_fd: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "before Linux 6.1")
        opened.append(name)
        return real(name, flags, mode, dir_fd=dir_fd)

    real = os.open
    with connect(client.mount).private(PAGE_SIZE) as memory:
        directory = memory._inode.directory
        monkeypatch.setattr(os, "open", without)
        descriptor = open_nameless(directory)
    assert os.fstat(descriptor).st_nlink == 0
    os.close(descriptor)
    assert len(opened) == 1
    assert client.list() == []


def test_a_fork_leaves_no_descriptors(client: Client) -> None:
    with client.private(PAGE_SIZE) as memory:
        memory[0] = 1
        before = _descriptors()
        assert _in_child(memory) == 0
        assert memory[0] == 1
        assert _descriptors() == before


def test_a_copy_that_fails_is_not_shared(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EDQUOT, "no more for you")

    with client.private(PAGE_SIZE) as memory:
        memory[0] = 1
        monkeypatch.setattr(_private, "clone_into", fail)
        before = _descriptors()
        assert _in_child(memory) == 2
        with memoryview(memory):
            assert _in_child(memory) == -signal.SIGSEGV
        assert memory[0] == 1
        assert _descriptors() == before
    assert "no more for you" in caplog.text


def test_what_has_no_copy_has_no_grandchildren(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(_private, "clone_into", fail)
    with (
        client.private(PAGE_SIZE) as memory,
        memoryview(memory),
        Child(_with_another, client, monkeypatch) as child,
    ):
        assert child.said() == [0, 0]


def _with_another(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How children end in a child that has no copy of what an array of it uses."""
    monkeypatch.setattr(_private, "clone_into", _copy)
    with client.private(PAGE_SIZE) as memory:
        memory[0] = 1
        return [_in_child(memory), _in_child(memory)]


def test_all_of_it_lies_beneath_the_room(client: Client) -> None:
    """So that a gap above what a child does not get takes what it allocates first."""
    with client.private(PAGE_SIZE) as first:
        holes = [mmap.mmap(-1, 2 * Room.LARGEST) for _ in range(3)]
        del holes[1]
        with client.private(Room.LARGEST) as second:
            second.resize(2 * Room.LARGEST)
            bound = dups.room._address
            assert all(address_of(memory) < bound for memory in (first, second))


_EARLY = """
    import ctypes, mmap, os, sys
    place = None
    def early():
        global kept
        if place is None:
            kept = [mmap.mmap(-1, 1 << 20) for _ in range(4)]
        else:
            libc = ctypes.CDLL(None)
            libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 4
            libc.mmap(place, 4096, 3, 0x100022, -1, 0)
    os.register_at_fork(after_in_child=early)

    from pathlib import Path
    from anonfs.client import _private
    def copy(source, copy, *, quiet):
        os.truncate(copy, os.fstat(source).st_size)
        os.pwrite(copy, os.pread(source, 1 << 20, 0), 0)
    _private.clone_into = copy
    _private.make_private = lambda descriptor: None
    directory = os.open(sys.argv[1], os.O_PATH)
    memory = _private.PrivateMemory(directory, 3 << 20)
    memory[:2] = b"ab"
    for _ in range(8):
        pid = os.fork()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
            break
        assert memory[:2] == b"ab"
    else:
        os._exit(0)
    if os.getpid() == os.getpgrp():
        place = memory._address
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        print(os.waitpid(pid, 0)[1] & 127)
"""


def test_what_children_allocate_first_is_not_in_the_way(tmp_path: Path) -> None:
    """To any depth. Where it is all the same, the child ends: arrays may point there."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_EARLY), tmp_path],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    assert int(done.stdout) == signal.SIGABRT
    assert "private memory has no place" in done.stderr
