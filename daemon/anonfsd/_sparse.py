"""Sparse: a filter for what others can make the daemon log as often as they like."""

import logging
import time

__all__ = ["Sparse"]


class Sparse(logging.Filter):
    """Lets each text pass once in so many ``seconds``, whatever its arguments are."""

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether ``record`` is to be logged."""
        now = time.monotonic()
        if now < self._next.get(record.msg, now):
            return False
        self._next[record.msg] = now + self._seconds
        return True
