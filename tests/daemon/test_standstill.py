"""Which READs a standstill stops, and which the kernel could be waiting for."""

from typing import Any

from anonfsd._standstill import Standstill, StoppedRead
from tests.daemon.paged import FakeReceiver, Paged


def _read(first: int, count: int) -> StoppedRead:
    waiting: Any = object()
    return StoppedRead(7, first << 12, count << 12, False, (first, count), waiting)


def _begun(loaded: list[tuple[int, int]]) -> Standstill:
    standstill, info = Standstill(), object()
    standstill.begin(info, loaded)  # type: ignore[arg-type]
    assert standstill.info is info
    return standstill


def test_runs_are_dropped_in_order_and_not_too_large() -> None:
    standstill = _begun([(512 * n, 512) for n in (9, 0, 1, 2, 3, 4, 5, 7)])
    runs = iter(standstill.next, None)
    assert list(runs) == [(0, 2048), (2048, 1024), (3584, 512), (4608, 512)]


def test_a_read_waits_for_the_end_unless_the_kernel_waits_for_it() -> None:
    standstill = _begun([(0, 512), (2048, 512), (4096, 512)])
    assert standstill.next() == (0, 512)
    current, beside = _read(3, 4), _read(600, 8)
    assert standstill.stops(beside)
    assert standstill.stops(current)
    assert not standstill.stops(_read(2048, 4))  # ahead
    assert not standstill.stops(_read(4090, 8))  # ahead in part
    assert standstill.next() == (2048, 512)
    across = _read(2040, 32)
    assert standstill.stops(across)
    assert standstill.let_go() == [across]  # the run takes long
    runs = list(iter(standstill.next, None))
    assert runs == [(4096, 512), (4090, 8), (2040, 32)]
    last = _read(0, 512)
    assert standstill.stops(last)
    assert standstill.end() == [beside, current, last]
    assert standstill.info is None
    assert standstill.next() is None


def test_a_read_that_was_stopped_is_answered_later() -> None:
    paged = Paged()
    inode = paged.file(pages=8)
    other = paged.file(b"other", pages=8)
    assert paged.write(inode.ino, 0, b"before") == 6
    assert inode.info is not None
    paged.paging.standstill.begin(inode.info, [])
    receivers = [FakeReceiver() for _ in range(3)]
    for receiver, ino, own in zip(
        receivers, (inode.ino, inode.ino, other.ino), (False, True, False), strict=True
    ):
        assert paged.paging.read(ino, 0, 5, receiver, own=own) == 0
    assert [receiver.replies for receiver in receivers] == [[], [], [bytes(5)]]
    stopped = paged.paging.standstill.end()
    paged.filesystem.unlink(1, b"other")
    gone = stopped[0]._replace(ino=other.ino)
    paged.paging.go_on([*stopped, gone])
    assert [receiver.replies for receiver in receivers[:2]] == [[b"befor"], [b"befor"]]
    assert receivers[0].errors == [116]
