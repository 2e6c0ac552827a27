import errno
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from pyfuse3 import FUSEError

from anonfs.errors import AnonfsError, InvariantError
from anonfs.vfs import ROOT, Departing, Inode
from anonfsd._answers import answered
from anonfsd._engine_lock import EngineLock
from anonfsd._room import Room
from tests.daemon.paged import Paged


class Handlers:
    """One handler, which raises what it is told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.failed = False
        self.room = Room(Departing(), EngineLock())
        self.failures = 0

    def fail(self) -> None:
        self.failed = True
        self.failures += 1

    @answered
    async def handler(self, one: int, *, two: int = 2) -> tuple[int, int]:
        """Documented."""
        if self.error is not None:
            raise self.error
        return one, two


@pytest.mark.parametrize(
    ("error", "number", "failures", "logged"),
    [
        (FUSEError(errno.EXDEV), errno.EXDEV, 0, ""),
        (AnonfsError(errno.ENOSPC, "swap is full"), errno.ENOSPC, 0, ""),
        (MemoryError(), errno.ENOMEM, 0, "out of memory"),
        (InvariantError("miscounted"), errno.EIO, 1, "miscounted"),
        (ValueError("odd"), errno.EIO, 0, "odd"),
        (OSError(errno.EACCES, "in a file of the daemon's own"), errno.EIO, 0, "daemon's own"),
        (ExceptionGroup("several", [KeyError("k")]), errno.EIO, 0, "several"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_become_answers(
    error: Exception, number: int, failures: int, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = Handlers(error)
    with pytest.raises(FUSEError) as answer:
        trio.run(handlers.handler, 1)
    assert answer.value.errno == number
    assert handlers.failures == failures
    assert bool(caplog.records) == bool(logged)
    assert logged in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_the_end_of_the_program_is_no_answer(error: BaseException) -> None:
    with pytest.raises(type(error)):
        trio.run(Handlers(error).handler, 1)


def test_cancellation_passes() -> None:
    class Waiting(Handlers):
        @answered
        async def wait(self) -> None:
            await trio.sleep_forever()

    async def main() -> bool:
        with trio.move_on_after(0) as scope:
            await Waiting().wait()
        return scope.cancelled_caught

    assert trio.run(main)


def test_a_result_and_the_handlers_name_are_kept() -> None:
    handlers = Handlers()

    async def call() -> tuple[int, int]:
        return await handlers.handler(7, two=8)

    assert trio.run(call) == (7, 8)
    assert Handlers.handler.__name__ == "handler"
    assert Handlers.handler.__doc__ == "Documented."


def test_once_the_state_is_broken_everything_is_eio() -> None:
    handlers = Handlers(InvariantError("miscounted"))
    for _ in range(2):
        with pytest.raises(FUSEError) as answer:
            trio.run(handlers.handler, 1)
        assert answer.value.errno == errno.EIO
        handlers.error = None
    assert handlers.failures == 1


@pytest.fixture
def paged() -> Iterator[Paged]:
    made = Paged()
    yield made
    made.check()
    made.close()


def _depart(paged: Paged) -> Inode:
    """A file that was unlinked, of which the kernel has not told that it has forgotten it."""
    inode = paged.file()
    with paged.lock:
        paged.filesystem.remember(inode)
        paged.filesystem.unlink(ROOT, b"f")
    return inode


def test_a_handler_that_finds_no_room_is_called_again_when_there_is_some(paged: Paged) -> None:
    handlers, inode = Handlers(AnonfsError(errno.EDQUOT)), _depart(paged)
    handlers.room = Room(paged.filesystem.departing, paged.lock)
    results: list[object] = []

    async def call() -> None:
        results.append(await handlers.handler(7))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await trio.testing.wait_all_tasks_blocked()
            assert not results
            handlers.error = None
            paged.filesystem.forget(inode.ino, 1)

    trio.run(main, instruments=[paged.lock])
    assert results == [(7, 2)]


def test_a_thread_does_not_wait_for_room(paged: Paged) -> None:
    handlers = Handlers(AnonfsError(errno.ENOSPC))
    handlers.room = Room(paged.filesystem.departing, paged.lock)
    _depart(paged)
    with pytest.raises(FUSEError, match="No space"):
        handlers.handler(7).send(None)
