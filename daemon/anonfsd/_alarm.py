"""Alarms: events of the event loop that any thread may set, with the engine's lock held."""

import contextlib

import trio

__all__ = ["Alarm"]


class Alarm:
    """Something that one task waits for, and that is set once, however often, until it is cleared.

    It belongs to whoever holds the engine's lock, as the event loop does whenever it runs.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: tuple[trio.lowlevel.TrioToken, trio.Event] | None = None

    def set(self) -> None:
        """Let the task go on, if it waits, and from then on not wait."""
        self._is_set = True
        if self._waiting is not None:
            token, event = self._waiting
            self._waiting = None
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(event.set)

    def clear(self) -> None:
        """Let the task wait from now on."""
        self._is_set = False

    async def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            await trio.lowlevel.checkpoint()
            return
        event = trio.Event()
        self._waiting = trio.lowlevel.current_trio_token(), event
        try:
            await event.wait()
        finally:
            self._waiting = None
