"""Who waits for a file of the tree is woken by a change, and by nothing else."""

import errno
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
import trio.testing

from anonfs.errors import AnonfsError
from anonfsd._views import Look
from anonfsd._watch import Watch, WatchedFile


class FakeView:
    """Shows a number; counts how often it was looked at."""

    def __init__(self) -> None:
        self.number = 0
        self.error: int | None = None
        self.looks = 0

    async def look(self, uid: int) -> Look:
        return Look(b"%d" % self.number, await self.state(uid))

    async def state(self, _uid: int) -> int:
        self.looks += 1
        await trio.lowlevel.checkpoint()
        if self.error:
            raise AnonfsError(self.error)
        return self.number


class FakeWakeup:
    """Counts what it is told; the connection may be gone."""

    def __init__(self, error: OSError | None = None) -> None:
        self.times = 0
        self._error = error

    def notify(self) -> None:
        self.times += 1
        if self._error:
            raise self._error


def run(test: Callable[[FakeView, WatchedFile, Watch], Coroutine[Any, Any, None]]) -> None:
    """Run ``test`` beside a watch; time passes when nothing else can happen."""

    async def main() -> None:
        view, watch = FakeView(), Watch()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            await test(view, await WatchedFile.opened(view, 0), watch)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_change_wakes_once() -> None:
    async def test(view: FakeView, file: WatchedFile, watch: Watch) -> None:
        wakeup = FakeWakeup()
        watch.add(file, wakeup)
        await trio.sleep(5)
        assert wakeup.times == 0
        view.number = 1
        await trio.sleep(0.6)
        assert wakeup.times == 1
        assert await file.has_changed()
        looks = view.looks
        view.number = 2
        await trio.sleep(60)
        assert (wakeup.times, view.looks) == (1, looks), "nobody waits any more"

    run(test)


def test_a_read_from_the_beginning_is_a_new_snapshot() -> None:
    async def test(view: FakeView, file: WatchedFile, _watch: Watch) -> None:
        view.number = 12
        assert await file.read(0, 10) == b"0", "as it was when it was opened"
        assert await file.has_changed()
        assert await file.has_changed(), "until it is read"
        assert await file.read(0, 10) == b"12"
        view.number = 34
        assert await file.read(1, 10) == b"2"
        assert await file.has_changed(), "the last look was before the snapshot"
        assert await file.read(0, 1) == b"3"
        assert not await file.has_changed()

    run(test)


def test_what_was_told_to_have_changed_is_read_anew() -> None:
    async def test(view: FakeView, file: WatchedFile, _watch: Watch) -> None:
        view.number = 1
        assert await file.has_changed()
        assert await file.read(0, 10) == b"1", "the first read too"

    run(test)


def test_looks_are_bounded() -> None:
    async def test(view: FakeView, file: WatchedFile, watch: Watch) -> None:
        for _ in range(1000):
            assert not await file.has_changed()
        assert view.looks == 2
        watch.add(file, FakeWakeup())
        await trio.sleep(10)
        assert view.looks <= 2 + 4 * 10 + 1

    run(test)


def test_waiters_are_made_to_ask_again() -> None:
    async def test(view: FakeView, file: WatchedFile, watch: Watch) -> None:
        wakeup = FakeWakeup()
        watch.add(file, wakeup)
        await trio.sleep(29)
        assert wakeup.times == 0
        await trio.sleep(3)
        looks = view.looks
        await trio.sleep(60)
        assert (wakeup.times, view.looks) == (1, looks)

    run(test)


def test_a_closed_file_is_not_looked_at() -> None:
    async def test(view: FakeView, file: WatchedFile, watch: Watch) -> None:
        wakeup = FakeWakeup()
        watch.add(file, wakeup)
        watch.remove(file)
        watch.remove(file)
        view.number = 1
        await trio.sleep(60)
        assert (wakeup.times, view.looks) == (0, 1)

    run(test)


@pytest.mark.parametrize(("number", "times"), [(errno.EAGAIN, 0), (errno.ESTALE, 1)])
def test_a_view_that_fails(number: int, times: int) -> None:
    async def test(view: FakeView, file: WatchedFile, watch: Watch) -> None:
        wakeup = FakeWakeup(OSError(errno.ENODEV, "the connection is gone"))
        watch.add(file, wakeup)
        view.error = number
        await trio.sleep(5)
        assert wakeup.times == times
        assert await file.has_changed() == bool(times)

    run(test)
