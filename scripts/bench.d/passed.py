"""A scenario with two processes that pass data through a ring buffer which stays loaded."""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import kernel_sysv
from measure import Better, Metric, Sample
from pages import MIB
from passing import BUFFER, SLICE, SLOT
from places import Place
from programs import program
from segments import SYSV

__all__ = ["Passed"]

_RESIDENT = 0.95


@dataclass(frozen=True)
class Passed:
    """So many slots are passed; on anonfs through a file, whatever the peer takes."""

    slots: int
    peer: str = ""

    @property
    def __name__(self) -> str:
        return "a ring buffer"

    def __call__(self, place: Place) -> Iterator[Sample]:
        """Bytes a second, as the receiver sees it."""
        name = "ring buffer, two processes"
        metric = Metric(name, "MiB/s", Better.HIGHER, target=_RESIDENT, peer_does=self.peer)
        if self.peer == SYSV and not place.daemon:
            number, memory = kernel_sysv.attach_new(BUFFER)
            seconds = _pass("sysv", number, self.slots)
            kernel_sysv.detach(memory)
        else:
            with place.scratch() as fd:
                os.ftruncate(fd, BUFFER)
                seconds = _pass("file", fd, self.slots)
        yield metric, SLICE * SLOT / MIB / seconds


def _pass(kind: str, number: int, slots: int) -> float:
    """Seconds of a slice, as the receiver sees it."""
    fds = [number] if kind == "file" else []
    with (
        program("passing", "send", kind, number, slots, pass_fds=fds) as sender,
        program("passing", "receive", kind, number, slots, pass_fds=fds) as receiver,
    ):
        for one in (sender, receiver):
            one.tell("")
        sender.answer()
        return float(receiver.answer())
