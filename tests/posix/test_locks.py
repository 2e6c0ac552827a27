"""flock(2) and fcntl(2) locks between processes."""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

import pytest

from tests.posix.children import Child, hear, say
from tests.posix.reference import as_on_tmpfs, outcome

EX, SH, UN, NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_UN, fcntl.LOCK_NB


def _flock(path: Path, kind: int) -> object:
    with path.open("r+b") as file:
        return outcome(fcntl.flock, file, kind | NB)


def _record_lock(path: Path, kind: int, length: int = 0, start: int = 0) -> object:
    with path.open("r+b") as file:
        return outcome(fcntl.lockf, file, kind | NB, length, start)


@as_on_tmpfs
def test_flock(directory: Path) -> object:
    path = directory / "f"
    path.touch()
    record: list[object] = []

    def holder() -> None:
        with path.open("r+b") as file:
            while (kind := hear()) is not None:
                fcntl.flock(file, kind)
                say(kind)

    with Child(holder) as child:
        for kind in (EX, SH, UN, EX):
            child.tell(kind)
            assert child.said() == kind
            record += [_flock(path, SH), _flock(path, EX)]
        child.kill()
        child.wait()
    assert record[-2:] == ["EAGAIN", "EAGAIN"]
    return record, _flock(path, EX)


@as_on_tmpfs
def test_record_locks(directory: Path) -> object:
    path = directory / "f"
    path.write_bytes(bytes(1000))

    def holder() -> None:
        with path.open("r+b") as file, path.open("rb") as other:
            fcntl.lockf(file, EX, 100, 100)
            fcntl.lockf(other, SH, 100, 500)
            say("locked")
            hear()
            fcntl.lockf(file, UN, 50, 100)
            say("split")
            hear()
        # Closing any descriptor of the file drops all its record locks.
        say("closed")
        hear()

    probes = ((EX, 50, 0), (EX, 1, 99), (EX, 1, 100), (EX, 1, 150), (EX, 1, 200), (EX, 0, 0))
    reads = ((SH, 1, 100), (SH, 1, 500), (EX, 1, 599), (SH, 0, 600))
    record = []
    with Child(holder) as child:
        for step in ("locked", "split", "closed"):
            assert child.said() == step
            record.append([_record_lock(path, *probe) for probe in probes + reads])
            child.tell()
    return record


@as_on_tmpfs
def test_the_holder_of_a_record_lock_is_told(directory: Path) -> object:
    path = directory / "f"
    path.touch()

    def holder() -> None:
        with path.open("r+b") as file:
            fcntl.lockf(file, EX, 10, 5)
            say("locked")
            hear()

    with Child(holder) as child, path.open("r+b") as file:
        assert child.said() == "locked"
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        kind, whence, start, length, pid = struct.unpack(
            "hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked)
        )
        return kind, whence, start, length, pid == child.pid


def test_a_waiting_locker_gets_the_lock(shared_mount: Path) -> None:
    path = shared_mount / "f"
    path.touch()

    def waiter() -> str:
        with path.open("r+b") as file:
            say("waits")
            fcntl.flock(file, EX)
            return "has it"

    with path.open("r+b") as file:
        fcntl.flock(file, EX)
        with Child(waiter) as child:
            assert child.said() == "waits"
            fcntl.flock(file, UN)
            assert child.said() == "has it"


@pytest.mark.parametrize("processes", [6])
def test_a_lock_keeps_a_counter_right(shared_mount: Path, processes: int) -> None:
    path = shared_mount / "counter"
    path.write_bytes(b"0")

    def count() -> None:
        with path.open("r+b", buffering=0) as file:
            for _ in range(50):
                fcntl.lockf(file, EX)
                number = int(os.pread(file.fileno(), 20, 0)) + 1
                os.pwrite(file.fileno(), str(number).encode(), 0)
                fcntl.lockf(file, UN)

    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(Child(count)) for _ in range(processes)]
        for child in children:
            child.said()
    assert path.read_bytes() == str(50 * processes).encode()
