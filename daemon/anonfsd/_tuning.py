"""Tuning of the mount's backing device in sysfs, which only root may do.

Measured on a FUSE mount: with the default limits the kernel holds dirty pages to 1 % of what it
allows elsewhere, and dirtying 256 MiB took 230 ms instead of 85.

Read-ahead is one knob a mount, of which each open file keeps the value it found when it was opened.
A random fault reads as much around it every time, a stream wants much, and the files of programs
cannot be told apart::

    read_ahead_kb                                  4     16     32    128    512
    random, µs a fault from swap                 165    183    202    315    640
    sequential from swap, MiB/s                   20     78    134    406    900

So programs get little, and streams are read ahead through files of the daemon's own (`ReadAhead`),
which are opened while the knob is turned up. A program that opens a file in that instant gets much.

It must be set after FUSE_INIT, at which the kernel takes the smaller of both sides' values.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Tuning"]

log = logging.getLogger(__name__)

_LIMITS = {"strict_limit": "0", "max_ratio": "100"}
_READ_AHEAD = "read_ahead_kb"
_LITTLE, _MUCH = "4", "1024"


class Tuning:
    """The knobs of the mount with a device (major, minor)."""

    def __init__(self, device: tuple[int, int]) -> None:
        self._directory = Path("/sys/class/bdi") / f"{device[0]}:{device[1]}"
        self._able = os.geteuid() == 0

    def apply(self) -> None:
        """Lift the limits of the mount; a kernel that lacks one is left alone."""
        if not self._able:
            log.info("not root: dirty pages are throttled and read-ahead is 128 KiB")
            return
        for name, value in {**_LIMITS, _READ_AHEAD: _LITTLE}.items():
            self._set(name, value)

    @contextmanager
    def reading_ahead_much(self) -> Iterator[None]:
        """What is opened meanwhile is read ahead in large requests; one thread at a time."""
        self._set(_READ_AHEAD, _MUCH)
        try:
            yield
        finally:
            self._set(_READ_AHEAD, _LITTLE)

    def _set(self, name: str, value: str) -> None:
        if self._able:
            try:
                (self._directory / name).write_text(value, "ascii")
            except OSError as error:
                log.info("%s of the mount stays as it is: %s", name, error.strerror)
