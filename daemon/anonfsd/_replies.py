"""Replies: the answers to requests, by their numbers, on the device that they came from."""

import contextlib
import os
import struct

__all__ = ["Later", "reply", "reply_error"]

_OUT = struct.Struct("=IiQ")  # fuse_out_header: len, error, unique


def reply(device: int, unique: int, data: bytes | memoryview = b"") -> None:
    """Answer a request that is not withdrawn. Raises OSError: the connection is gone."""
    size = len(data)
    header = _OUT.pack(_OUT.size + size, 0, unique)
    with contextlib.suppress(FileNotFoundError):  # withdrawn
        os.writev(device, [header, data] if size else [header])


def reply_error(device: int, unique: int, error: int) -> None:
    """As `reply`, with an errno."""
    with contextlib.suppress(FileNotFoundError):
        os.write(device, _OUT.pack(_OUT.size, -error, unique))


class Later:
    """Answers one request, from any thread, if the connection is still there."""

    def __init__(self, device: int, unique: int) -> None:
        self._device = device
        self._unique = unique

    def reply(self, data: bytes | memoryview = b"") -> None:
        """Answer it."""
        with contextlib.suppress(OSError):
            reply(self._device, self._unique, data)

    def reply_error(self, error: int) -> None:
        """Answer it with an errno."""
        with contextlib.suppress(OSError):
            reply_error(self._device, self._unique, error)
