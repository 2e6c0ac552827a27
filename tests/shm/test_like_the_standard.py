"""What the standard library's class does, ours does: each case is run with both.

Only what the standard class gets wrong differs, and is tested elsewhere.
"""

import contextlib
import os
import pickle
from collections.abc import Callable
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonfs import shm
from anonfs.client import connect
from tests.posix.children import STRANGER, as_user
from tests.support.mounts import Mounted

Segment = Any
"""One of the classes."""


@pytest.fixture(autouse=True)
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would live on as a process, and remove what a test leaves to see."""
    monkeypatch.setattr(resource_tracker, "register", lambda *_: None)
    monkeypatch.setattr(resource_tracker, "unregister", lambda *_: None)


def _raises(call: Callable[..., object], *arguments: Any, **keywords: Any) -> str:
    try:
        return repr(call(*arguments, **keywords))
    except Exception as error:  # noqa: BLE001  which is what is compared
        # BufferError is worded by numpy, memoryview or mmap, whoever is asked first.
        return type(error).__name__ if isinstance(error, BufferError) else repr(error)


@contextlib.contextmanager
def _made(of: Segment, name: str, size: int = 8192) -> Any:
    segment = of(name, create=True, size=size)
    try:
        yield segment
    finally:
        with contextlib.suppress(FileNotFoundError):
            segment.unlink()
        segment.close()


def bad_names(of: Segment, _name: str) -> Any:
    bad = ["", "/", "a/b", "x" * 256, 5, b"bytes"]
    found = [_raises(of, name) for name in [*bad, "not-made", "/not-made", "."]]
    return found + [_raises(of, name, True, 1) for name in bad]


def bad_sizes(of: Segment, name: str) -> Any:
    sizes = [0, -1, -(1 << 70), "5", None]
    found = [_raises(of, name, create=True, size=size) for size in sizes]
    return [*found, _raises(of, name, create=True), _raises(of), _raises(of, name, size=-1)]


def a_size_too_large_for_c(of: Segment, name: str) -> Any:
    error = _catch(lambda: of(name, create=True, size=1 << 63))
    Path("/dev/shm", name).unlink(missing_ok=True)
    return type(error)


def _catch(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  which is what is compared
        return error
    return None


def what_is_there(of: Segment, name: str) -> Any:
    with _made(of, name, 5000) as segment:
        again = of(name, size=1 << 40)
        again.buf[:5] = b"hello"
        seen = bytes(segment.buf[:6])
        again.close()
        error = _catch(lambda: of(name, True, 5000))
        assert isinstance(error, FileExistsError)
        return repr(segment), segment.name, segment.size, len(segment.buf), seen, str(error)


def a_slash_in_front(of: Segment, name: str) -> Any:
    with _made(of, "/" + name) as segment:
        other = of(name)
        other.close()
        return segment.name, other.name


def made_up_names(of: Segment, _name: str) -> Any:
    one, two = (of(create=True, size=1) for _ in range(2))
    for segment in (one, two):
        segment.unlink()
        segment.close()
    return one.name[:4], len(one.name), one.name != two.name


def gone(of: Segment, name: str) -> Any:
    with _made(of, name) as segment:
        segment.unlink()
        segment.buf[0] = 1
        return _raises(segment.unlink), _raises(of, name), segment.buf[0]


def closed(of: Segment, name: str) -> Any:
    with _made(of, name) as segment:
        buffer = segment.buf
        segment.close()
        segment.close()
        return segment.buf, segment.size, repr(segment), _raises(lambda: buffer[0])


def views_forbid_to_close(of: Segment, name: str) -> Any:
    found = []
    for view_of in (lambda buf: np.frombuffer(buf, np.uint8), lambda buf: buf[1:2], memoryview):
        with _made(of, name) as segment:
            view = view_of(segment.buf)
            found.append(_raises(segment.close))
            del view
    return found


def pickled(of: Segment, name: str) -> Any:
    with _made(of, name) as segment:
        data = pickle.dumps(segment)
        other = pickle.loads(data)  # noqa: S301
        other.buf[7] = 7
        same = type(other) is of
        other.close()
        segment.unlink()
        return same, segment.buf[7], _raises(pickle.loads, data)


def a_subclass_that_may_create(of: Segment, name: str) -> Any:
    class Optional(of):  # type: ignore[misc]
        _flags = os.O_CREAT | os.O_RDWR

    with _made(of, name):
        found = Optional(name)
        found.close()
        return found.size


def nothing_in_it(of: Segment, name: str) -> Any:
    class Optional(of):  # type: ignore[misc]
        _flags = os.O_CREAT | os.O_RDWR

    found = _raises(Optional, name), _raises(of, name)
    directory = Path(os.environ["ANONFS_MOUNT"] if of is shm.SharedMemory else "/dev/shm")
    (directory / name).unlink()
    return found


def a_directory_and_a_link(of: Segment, name: str) -> Any:
    directory = Path(os.environ["ANONFS_MOUNT"] if of is shm.SharedMemory else "/dev/shm")
    (directory / name).mkdir()
    found = [_raises(of, name)]
    (directory / name).rmdir()
    (directory / name).symlink_to("/proc/version")
    found.append(_raises(of, name))
    (directory / name).unlink()
    return found


def cut_off_under_a_descriptor(of: Segment, name: str) -> Any:
    with _made(of, name, 3) as segment:
        return len(segment.buf), _raises(lambda: segment.buf[3]), bytes(segment.buf)


CASES = [
    bad_names,
    bad_sizes,
    a_size_too_large_for_c,
    what_is_there,
    a_slash_in_front,
    made_up_names,
    gone,
    closed,
    views_forbid_to_close,
    pickled,
    a_subclass_that_may_create,
    nothing_in_it,
    a_directory_and_a_link,
    cut_off_under_a_descriptor,
]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_other_users(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory()
    mounted.workplace.chmod(0o711)
    name = f"anonfs-{os.getpid()}-{os.urandom(4).hex()}"

    def told(of: Segment) -> Any:
        def as_stranger(_: Path) -> Any:
            segment = object.__new__(of)
            segment._name, segment._fs = "/" + name, connect(mounted.path)
            return _raises(of, name), _raises(of, name, True, 1), _raises(segment.unlink)

        with _made(of, name):
            return as_user(STRANGER, Path("/"), as_stranger)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANONFS_MOUNT", str(mounted.path))
        assert told(shm.SharedMemory) == told(shared_memory.SharedMemory)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_equal(mount: Path, case: Callable[[Segment, str], Any]) -> None:
    name = f"anonfs-{os.getpid()}-{os.urandom(4).hex()}"
    standard = case(shared_memory.SharedMemory, name)
    assert case(shm.SharedMemory, name) == standard
    assert list(mount.iterdir()) == []
    assert not Path("/dev/shm", name).exists()
