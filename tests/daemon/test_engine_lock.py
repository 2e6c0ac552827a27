import threading
from collections.abc import Iterator

import pytest
import trio

from anonfsd._engine_lock import EngineLock
from tests.daemon.paged import in_thread, soon


@pytest.fixture
def lock() -> Iterator[EngineLock]:
    lock = EngineLock()
    yield lock
    assert not lock._lock.locked(), "it was not given back"


class FakeWork:
    """Says whether the lock was held in each of its parts."""

    def __init__(self, lock: EngineLock, error: BaseException | None = None) -> None:
        self._lock = lock
        self._error = error
        self.at_once = True
        self.parts: list[tuple[str, bool]] = []

    def _note(self, part: str) -> None:
        self.parts.append((part, self._lock._lock.locked()))

    def run(self) -> None:
        self._note("run")
        if self._error is not None:
            raise self._error

    def run_at_once(self) -> bool:
        self._note("at once")
        return self.at_once

    def finish(self) -> None:
        self._note("finish")

    def abandon(self) -> None:
        self._note("abandon")


def test_work_is_done_without_the_lock(lock: EngineLock) -> None:
    work = FakeWork(lock)
    with lock:
        lock.perform(work)
        assert lock._lock.locked()
    assert work.parts == [("run", False), ("finish", True)]


@pytest.mark.parametrize("error", [OSError(5, "read"), KeyboardInterrupt()])
def test_work_that_fails(lock: EngineLock, error: BaseException) -> None:
    work = FakeWork(lock, error)
    with lock:
        with pytest.raises(type(error)):
            lock.perform(work)
        assert lock._lock.locked()
    assert work.parts == [("run", False), ("abandon", True)]


@pytest.mark.parametrize("done", [True, False])
def test_work_that_may_not_wait(lock: EngineLock, done: bool) -> None:
    work = FakeWork(lock)
    work.at_once = done
    with lock:
        assert lock.try_at_once(work) is done
        assert lock._lock.locked()
    assert work.parts == [("at once", False), ("finish" if done else "abandon", True)]


def test_an_error_of_the_bookkeeping_leaves_the_lock_held(
    lock: EngineLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = FakeWork(lock)

    def fail() -> None:
        raise ValueError

    monkeypatch.setattr(work, "finish", fail)
    with lock:
        with pytest.raises(ValueError):
            lock.perform(work)
        assert lock._lock.locked()


def test_a_condition_gives_the_lock_up(lock: EngineLock) -> None:
    condition = lock.condition()
    waiting = []

    def wait() -> None:
        with lock:
            waiting.append(True)
            assert condition.wait(20)

    result = in_thread(wait)
    soon(lambda: bool(waiting))
    with lock:
        condition.notify_all()
    result()


def test_the_event_loop_holds_it_while_it_runs(lock: EngineLock) -> None:
    seen: list[bool] = []

    async def script() -> None:
        assert lock._lock.locked()
        await trio.lowlevel.checkpoint()
        assert lock._lock.locked()
        await trio.to_thread.run_sync(lambda: seen.append(lock._lock.acquire(timeout=20)))
        # That thread has it, and the loop could not have come here: so it is given back there.
        assert lock._lock.locked()

    def release_soon() -> None:
        soon(lambda: bool(seen))
        lock._lock.release()

    releasing = in_thread(release_soon)
    trio.run(script, instruments=[lock])
    releasing()
    assert seen == [True]


def test_the_event_loop_waits_for_a_thread_that_has_it(lock: EngineLock) -> None:
    steps: list[str] = []
    taken, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with lock:
            taken.set()
            assert go_on.wait(20)
            steps.append("thread")

    async def script() -> None:
        token = trio.lowlevel.current_trio_token()
        event = trio.Event()

        def wake() -> None:
            assert taken.wait(20)
            token.run_sync_soon(event.set)
            go_on.set()

        threads = in_thread(other), in_thread(wake)
        await event.wait()
        steps.append("loop")
        await trio.to_thread.run_sync(lambda: [result() for result in threads])

    trio.run(script, instruments=[lock])
    assert steps == ["thread", "loop"]


def test_it_is_free_after_a_loop_that_failed(lock: EngineLock) -> None:
    async def script() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        trio.run(script, instruments=[lock])
    with lock:
        pass
