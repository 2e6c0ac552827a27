"""What a segment can do that the standard library's cannot."""

import contextlib
import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anonfs.client import ClientError, NoMountError
from anonfs.inspection import PageCounts
from anonfs.shm import ShareableList, SharedMemory
from anonfs.units import PAGE_SIZE
from tests.lifecycle.areas import areas_in_proc, ring_in_order
from tests.posix.children import Child, eventually, hear, say

_SIZE = 4 * PAGE_SIZE
_ROUNDS = 40

is_root = os.geteuid() == 0


def test_resize_keeps_what_is_there_and_others_follow(mount: Path) -> None:
    with SharedMemory("s", True, _SIZE) as one, SharedMemory("s") as other:
        one.buf[:5] = b"hello"
        one.resize(3 * _SIZE + 1)
        assert (one.size, len(one.buf), other.size, len(other.buf)) == (
            3 * _SIZE + 1,
            3 * _SIZE + 1,
            _SIZE,
            _SIZE,
        )
        one.buf[3 * _SIZE] = 9
        other.resize()
        assert (other.size, other.buf[3 * _SIZE], bytes(other.buf[:5])) == (one.size, 9, b"hello")
        assert (mount / "s").stat().st_size == one.size
        assert ring_in_order(mount / "s") == areas_in_proc(
            mount / "s", [os.getpid()], "attached" if is_root else "observed"
        )


@pytest.mark.parametrize(
    "use",
    [
        lambda buf: buf,
        lambda buf: buf[1:],
        lambda buf: np.frombuffer(buf, np.uint8),
        lambda buf: np.ndarray((4,), buffer=buf),
    ],
    ids=["the same", "a slice", "an array that exports", "an array that does not"],
)
def test_what_is_in_use_is_neither_moved_nor_unmapped(
    mount: Path, use: Callable[[memoryview], Any]
) -> None:
    segment = SharedMemory("s", True, _SIZE)
    segment.buf[8] = 7
    used = use(segment.buf)
    with pytest.raises(BufferError):
        segment.resize(2 * _SIZE)
    assert (segment.size, segment.buf[8], (mount / "s").stat().st_size) == (_SIZE, 7, _SIZE)
    del segment
    assert np.frombuffer(used, np.uint8).sum() == 7
    assert len(ring_in_order(mount / "s")) == 1
    del used
    assert ring_in_order(mount / "s") == []


def test_an_array_outlives_the_close(mount: Path) -> None:
    with SharedMemory("s", True, _SIZE) as segment:
        array = np.ndarray((4,), buffer=segment.buf)
        array[:] = 3
    assert array.sum() == 12
    del array
    assert ring_in_order(mount / "s") == []


def _hold(name: str, size: int) -> None:
    hear()
    segment = SharedMemory(name)
    say(segment.size)
    while (wanted := hear()) is not None:
        segment.resize(wanted)
        say(segment.size)
    assert segment.size == size


def test_nobody_is_cut_off(mount: Path) -> None:
    with Child(_hold, "s", PAGE_SIZE) as child, SharedMemory("s", True, _SIZE) as segment:
        child.tell()
        assert child.said() == _SIZE
        with pytest.raises(BufferError, match=f"process {child.pid} has more than 4096 bytes"):
            segment.resize(PAGE_SIZE)
        assert (mount / "s").stat().st_size == _SIZE
        segment.resize(_SIZE - 1)  # within the last page of all of them
        child.tell(_SIZE + 1)
        assert child.said() == _SIZE + 1
        segment.close()
        child.tell(PAGE_SIZE)
        assert child.said() == PAGE_SIZE
        child.tell()
        child.said()


def _store_at_the_end(name: str) -> None:
    for _ in range(_ROUNDS):
        with SharedMemory(name) as segment:
            segment.buf[segment.size - 1] = 1
    say("not killed")


def _resize_as_it_goes(name: str) -> None:
    done = 0
    with SharedMemory(name) as segment:
        for number in range(2 * _ROUNDS):
            with contextlib.suppress(BufferError):
                segment.resize((1 + number % 2) * _SIZE)
                done += 1
    say(done)


def test_nobody_who_opens_it_meanwhile_is_cut_off(mount: Path) -> None:
    del mount
    with (
        SharedMemory("s", True, PAGE_SIZE),
        Child(_store_at_the_end, "s") as one,
        Child(_store_at_the_end, "s") as other,
        Child(_resize_as_it_goes, "s") as resizing,
    ):
        assert (one.said(), other.said()) == ("not killed", "not killed")
        assert resizing.said() > _ROUNDS


def test_whoever_comes_first_makes_it_and_others_take_it(mount: Path) -> None:
    del mount

    def meet() -> None:
        for _ in range(_ROUNDS):
            with SharedMemory("s", True, _SIZE, exist_ok=True) as segment:
                segment.buf[_SIZE - 1] = 1
                with contextlib.suppress(FileNotFoundError):
                    segment.unlink()
        say("met")

    with Child(meet) as one, Child(meet) as two, Child(meet) as three:
        assert [child.said() for child in (one, two, three)] == ["met"] * 3


def test_this_process_is_not_cut_off_either(mount: Path) -> None:
    with SharedMemory("s", True, _SIZE) as segment, SharedMemory("s") as again:
        with pytest.raises(BufferError, match=f"process {os.getpid()} has more"):
            segment.resize(1)
        again.close()
        segment.resize(1)
        assert (mount / "s").stat().st_size == 1


@pytest.mark.parametrize("size", [0, -1])
def test_bad_sizes(mount: Path, size: int) -> None:
    with SharedMemory("s", True, _SIZE) as segment:
        with pytest.raises(ValueError, match="positive number different from zero"):
            segment.resize(size)
        (mount / "s").write_bytes(b"")
        with pytest.raises(ValueError, match="empty"):
            segment.resize()
    with pytest.raises(ValueError, match="closed"):
        segment.resize(1)


def test_no_room(mount: Path) -> None:
    free = os.statvfs(mount)
    huge = 2 * free.f_blocks * free.f_frsize
    for exist_ok in (False, True):
        with pytest.raises(
            OSError, match=r"do not fit, .* left in .*: unlink .* --budget"
        ) as caught:
            SharedMemory("s", True, huge, exist_ok=exist_ok)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/s")
        assert list(mount.iterdir()) == []
    with SharedMemory("s", True, _SIZE) as segment:
        for ask in (lambda: segment.resize(huge), lambda: ShareableList([b"x" * 99], name="s")):
            with pytest.raises(OSError):
                ask()
        segment.buf[_SIZE - 1] = 1
        assert (segment.size, (mount / "s").stat().st_size) == (_SIZE, _SIZE)


def test_a_snapshot(mount: Path) -> None:
    with SharedMemory("s", True, 600 * PAGE_SIZE + 5) as segment:
        segment.buf[: 2 * PAGE_SIZE] = os.urandom(2 * PAGE_SIZE)
        segment.buf[500 * PAGE_SIZE] = 1
        segment.buf[600 * PAGE_SIZE + 4] = 2
        (mount / "s").chmod(0o640)
        with segment.snapshot("copy", reap="last-area") as copy, segment.snapshot() as nameless:
            assert (copy.name, copy.size, copy.reap) == ("copy", segment.size, "last-area")
            assert bytes(copy.buf) == bytes(nameless.buf) == bytes(segment.buf)
            assert copy.stats() == PageCounts(601, 597, 4, 0)
            assert (mount / "copy").stat().st_mode & 0o7777 == 0o640
            segment.buf[0] ^= 255
            assert copy.buf[0] != segment.buf[0]
            with pytest.raises(FileExistsError) as caught:
                segment.snapshot("copy")
            assert caught.value.filename == "/copy"
            assert {path.name for path in mount.iterdir()} == {"s", "copy", nameless.name}
        eventually(lambda: not (mount / "copy").exists(), "the copy goes with its last area")


def test_a_snapshot_that_does_not_fit_leaves_nothing(mount: Path) -> None:
    free = os.statvfs(mount)
    with SharedMemory("s", True, free.f_bavail * free.f_frsize * 2 // 3) as segment:
        with pytest.raises(OSError, match="do not fit"):
            segment.snapshot("copy")
        assert [path.name for path in mount.iterdir()] == ["s"]


def test_holders_and_stats(mount: Path) -> None:
    with Child(_hold, "s", _SIZE) as child, SharedMemory("s", True, _SIZE) as segment:
        child.tell()
        child.said()
        holders = segment.holders()
        assert holders.keys() == {os.getpid(), child.pid}
        assert holders[child.pid] == areas_in_proc(
            mount / "s", [child.pid], "attached" if is_root else "observed"
        )
        segment.buf[PAGE_SIZE] = 1
        os.fsync(segment.fileno())
        assert segment.stats() == PageCounts(4, 3, 1, 0)


def test_attach_can_be_left_out(mount: Path) -> None:
    with SharedMemory("s", True, _SIZE, attach=False) as segment:
        again = pickle.loads(pickle.dumps(segment))  # noqa: S301
        with again, segment.snapshot("copy"):
            segment.resize(2 * _SIZE)
            areas = [*ring_in_order(mount / "s"), *ring_in_order(mount / "copy")]
            assert [area.how for area in areas] == ["observed"] * 3


def test_a_mount_that_is_named(mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mount / "deeper").mkdir()
    with SharedMemory("s", True, 1, mount=mount / "deeper") as segment:
        assert (mount / "deeper/s").exists()
        with pickle.loads(pickle.dumps(segment)) as again:  # noqa: S301
            assert again.path == segment.path
    monkeypatch.setenv("ANONFS_MOUNT", "/proc")
    with pytest.raises(NoMountError):
        SharedMemory("s")


def test_one_that_exists_will_do(mount: Path) -> None:
    with SharedMemory("s", True, _SIZE, exist_ok=True) as made:
        made.buf[0] = 1
        with SharedMemory("s", True, 1, exist_ok=True) as found:
            assert (found.size, found.buf[0]) == (_SIZE, 1)
    (mount / "empty").touch()  # whose maker was killed
    with SharedMemory("empty", True, _SIZE, exist_ok=True) as found:
        assert found.size == _SIZE
    names = {SharedMemory(create=True, size=1, exist_ok=True).name for _ in range(3)}
    assert len(names) == 3


def test_reap_policies(mount: Path) -> None:
    with SharedMemory("s", True, _SIZE, reap="last-area") as segment:
        assert segment.reap == SharedMemory("s").reap == "last-area"
        segment.reap = "never"
        assert SharedMemory("s", reap="last-attach").reap == f"last-attach {os.getpgid(0)}"
        with pytest.raises(ClientError, match="is not never, last-area or last-attach"):
            segment.reap = "soon"
    eventually(lambda: not (mount / "s").exists(), "the segment goes with the last of the group")
    with pytest.raises(ClientError):
        SharedMemory("s", True, _SIZE, reap="soon")
    assert list(mount.iterdir()) == []


def test_a_list_is_the_standards(mount: Path) -> None:
    words = ShareableList(["a", 1, 2.5, None, b"b", True], name="words")
    assert isinstance(words.shm, SharedMemory)
    again = pickle.loads(pickle.dumps(words))  # noqa: S301
    again[1] = 7
    assert (type(again), list(words)) == (ShareableList, ["a", 7, 2.5, None, b"b", True])
    assert (mount / "words").exists()
