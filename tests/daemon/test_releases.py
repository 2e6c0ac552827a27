"""Answers to RELEASEs, which the kernel may take its time for."""

import os
import struct
from contextlib import suppress

from anonfsd._releases import Releases


def _answer(unique: int) -> bytes:
    return struct.pack("=IiQ", 16, 0, unique)


def test_whoever_handles_a_release_does_not_wait_for_the_kernel() -> None:
    kernel, device = os.pipe()
    os.set_blocking(device, False)
    full = 0
    with suppress(BlockingIOError):
        while True:
            full += os.write(device, bytes(4096))
    os.set_blocking(device, True)
    releases = Releases(device)
    releases.start()
    releases.answer(4)
    releases.answer(8)
    while full:
        full -= len(os.read(kernel, full))
    assert [os.read(kernel, 16) for _ in range(2)] == [_answer(4), _answer(8)]
    releases.end()
    os.close(kernel)
    os.close(device)
