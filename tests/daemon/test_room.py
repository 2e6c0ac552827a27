import errno
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from anonfs.vfs import ROOT, Departing, Inode
from anonfsd._putting_off import Late
from anonfsd._room import Patience, Room
from tests.daemon.paged import Paged, in_thread, soon


class FakeWaiting:
    """A request, and its answer."""

    def __init__(self) -> None:
        self.answers: list[bytes | int] = []

    def reply(self, data: bytes | memoryview) -> None:
        self.answers.append(bytes(data))

    def reply_error(self, error: int) -> None:
        self.answers.append(error)


@pytest.fixture
def paged() -> Iterator[Paged]:
    paged = Paged(16, 16)
    yield paged
    paged.check()
    paged.close()


@pytest.fixture
def room(paged: Paged) -> Room:
    return Room(paged.filesystem.departing, paged.lock)


def depart(paged: Paged, name: bytes = b"f") -> Inode:
    inode = paged.file(name)
    with paged.lock:
        paged.filesystem.remember(inode)
        paged.filesystem.unlink(ROOT, name)
    return inode


def forget(paged: Paged, inode: Inode) -> None:
    with paged.lock:
        paged.filesystem.forget(inode.ino, 1)


def test_where_nothing_departs_one_more_try_is_all(room: Room) -> None:
    patience = Patience(room)
    assert patience.again(), "something may have gone since the first"
    assert not patience.again()


def test_each_that_goes_is_a_reason_to_try(paged: Paged, room: Room) -> None:
    one, other = depart(paged, b"a"), depart(paged, b"b")
    patience = Patience(room)
    assert patience.again()
    result = in_thread(patience.again)
    forget(paged, one)
    assert result()
    forget(paged, other)
    assert patience.again()
    assert not patience.again()


def test_what_departs_later_is_not_awaited(paged: Paged, room: Room) -> None:
    patience = Patience(room)
    assert patience.again()
    depart(paged)
    assert not patience.again()


def test_nobody_is_awaited_for_ever(paged: Paged) -> None:
    """A path that somebody holds keeps a file, and whoever has others go has us try no more."""
    departing = paged.filesystem.departing = Departing(lambda: now[0])
    now = [0.0]
    room = Room(departing, paged.lock)
    depart(paged)
    patience = Patience(room)
    assert patience.again()
    for _ in range(3):
        forget(paged, depart(paged, b"other"))
        assert patience.again()
    now[0] = 1.0
    for last in (True, False, False):
        forget(paged, depart(paged, b"other"))
        assert patience.again() is last


@pytest.mark.parametrize(
    ("second", "answer"), [(0, b"done"), (errno.EIO, errno.EIO), (errno.ENOSPC, errno.ENOSPC)]
)
def test_an_answer_that_comes_later(
    paged: Paged, room: Room, second: int, answer: bytes | int
) -> None:
    inode, waiting, tries = depart(paged), FakeWaiting(), threading.Semaphore(0)
    gone: list[bool] = []

    def attempt(late: Late) -> int:
        tries.release()
        if not gone:
            return errno.EDQUOT
        if not second:
            late.reply(b"done")
        return second

    room.answer_later(attempt, waiting)
    assert tries.acquire(timeout=20)
    assert not waiting.answers
    gone.append(True)
    forget(paged, inode)
    soon(lambda: waiting.answers == [answer])


def test_the_event_loop_goes_on_meanwhile(paged: Paged, room: Room) -> None:
    inode, patience = depart(paged), Patience(room)

    async def main() -> None:
        assert await patience.again_soon()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(patience.again_soon)
            paged.filesystem.forget(inode.ino, 1)
        assert not await patience.again_soon()

    trio.run(main, instruments=[paged.lock])


def test_not_many_wait_in_the_event_loop(
    paged: Paged, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They keep workers from what others ask for."""
    monkeypatch.setattr("anonfsd._room._MOST_SLEEPERS", 3)
    inode, said = depart(paged), []

    async def ask() -> None:
        patience = Patience(room)
        assert await patience.again_soon()
        said.append(await patience.again_soon())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert said == [False, False]
            paged.filesystem.forget(inode.ino, 1)

    trio.run(main, instruments=[paged.lock])
    assert said == [False, False, True, True, True]


def test_the_event_loop_hears_of_what_threads_do(paged: Paged, room: Room) -> None:
    inode, patience = depart(paged), Patience(room)

    async def main() -> None:
        assert await patience.again_soon()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, forget, paged, inode)
            assert await patience.again_soon()

    trio.run(main, instruments=[paged.lock])


@pytest.mark.parametrize(("size", "most"), [(0, 128), (1 << 20, 16)])
def test_not_many_are_answered_later(paged: Paged, room: Room, size: int, most: int) -> None:
    inode, waiting = depart(paged), FakeWaiting()

    def attempt(_: Late) -> int:
        return errno.ENOSPC

    with paged.lock:
        accepted = [room.answer_later(attempt, waiting, size) for _ in range(200)]
    assert accepted == [True] * most + [False] * (200 - most)
    forget(paged, inode)
    soon(lambda: waiting.answers == [errno.ENOSPC] * most)
    soon(lambda: room.answer_later(attempt, waiting, 16 << 20), "others may again")


def test_a_thread_that_cannot_be_had(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    waiting = FakeWaiting()
    with monkeypatch.context() as without:
        without.setattr("threading.Thread.start", start)
        assert not room.answer_later(lambda _: errno.ENOSPC, waiting, 16 << 20)
    assert room.answer_later(lambda _: errno.ENOSPC, waiting, 16 << 20)
    soon(lambda: waiting.answers == [errno.ENOSPC])
