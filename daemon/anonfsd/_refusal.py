"""The first request that is refused for want of room is logged, with what to do about it."""

import logging
from pathlib import Path

from anonfs.units import PAGE_SIZE, format_size

__all__ = ["FirstRefusal"]

log = logging.getLogger(__name__)


class FirstRefusal:
    """Logs one line in the life of the mount at ``point``, whatever its programs try.

    With ``overcommit`` that may be all there is to tell why one of them died of SIGBUS.
    """

    def __init__(self, point: Path, *, overcommit: bool) -> None:
        self._point = point
        self._advice = (
            "a larger --budget or --swap-size makes more of it"
            if overcommit
            else "for programs that make sparse giants, mount with --overcommit"
        )
        self._told = False

    def __call__(self, asked: int, left: int) -> None:
        """``asked`` pages were not to be had, of which there are ``left``."""
        if self._told:
            return
        self._told = True
        log.warning(
            "%s: refused for want of room, %s asked for and %s left; %s",
            self._point,
            format_size(asked * PAGE_SIZE),
            format_size(left * PAGE_SIZE),
            self._advice,
        )
