import errno

import pytest
import trio
from pyfuse3 import FUSEError

from anonfs.errors import AnonfsError, InvariantError
from anonfsd._answers import answered


class Handlers:
    """One handler, which raises what it is told to."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.failed = False
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
