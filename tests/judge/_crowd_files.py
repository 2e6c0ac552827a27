"""What the processes of a crowd work on at the same time."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.judge._dice import Dice
from tests.judge._libc import PAGE, RawMapping
from tests.judge.report import FaultFoundError, describe_difference

__all__ = ["SHARED_PAGES", "PassingFile", "Role", "SharedFile"]

SHARED_PAGES = {"shared-0": 1500, "shared-1": 60}
"""The shared files and their sizes."""

_BLOCK_PAGES = 5


@dataclass(frozen=True, slots=True)
class Role:
    """What one process of the crowd is told."""

    directory: str
    seed: int
    seconds: float
    number: int
    size: int
    must_swap_out: bool
    parent: int


class SharedFile:
    """A file of which this process owns every ``size``-th block of pages."""

    def __init__(self, role: Role, path: str, dice: Dice) -> None:
        self._role = role
        self._path = path
        self._dice = dice
        self._pages = SHARED_PAGES[Path(path).name]
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._fd, self._pages * PAGE)
        self._mapping = RawMapping(self._fd, 0, self._pages * PAGE)
        self._blocks = range(role.number, self._pages // _BLOCK_PAGES, role.size)
        self._data = {block: bytearray(_BLOCK_PAGES * PAGE) for block in self._blocks}
        self._history: list[str] = []

    def do_one(self) -> None:
        """One operation on a block of ours."""
        block = self._blocks[self._dice.between(0, len(self._blocks) - 1)]
        start, length = self._dice.span(_BLOCK_PAGES * PAGE)
        offset = block * _BLOCK_PAGES * PAGE + start
        kind = self._dice.between(0, 19)
        if kind < 9:
            self._write(block, start, offset, self._dice.data(length), mapped=kind < 6)
        elif kind < 18:
            self._read(block, start, offset, length, mapped=kind < 14)
        elif kind == 18:
            self._mapping.sync()
        else:
            self._reopen()

    def verify(self) -> None:
        """Read every block of ours."""
        for block in self._blocks:
            length = _BLOCK_PAGES * PAGE
            self._read(block, 0, block * length, length, mapped=block % 2 == 0)

    def _write(self, block: int, start: int, offset: int, data: bytes, *, mapped: bool) -> None:
        self._history.append(f"{'store' if mapped else 'pwrite'} of {len(data)} at {offset}")
        if mapped:
            self._mapping.write(offset, data)
            if self._dice.chance(0.4):
                # Starts write-back, and is no call that waits for the inode's lock as msync is,
                # which a swap-out by xattr holds from end to end.
                os.posix_fadvise(self._fd, offset, len(data), os.POSIX_FADV_DONTNEED)
        else:
            os.pwrite(self._fd, data, offset)
        self._data[block][start : start + len(data)] = data

    def _read(self, block: int, start: int, offset: int, length: int, *, mapped: bool) -> None:
        if mapped:
            actual = self._mapping.read(offset, length)
        else:
            actual = os.pread(self._fd, length, offset)
        expected = bytes(self._data[block][start : start + length])
        if actual != expected:
            way = "load" if mapped else "pread"
            told = describe_difference(expected, actual, offset, ())
            lines = [f"{self._path}: {way} of {length} at {offset}, wrong {told}"]
            lines += ["last stores by this process:", *self._history[-12:]]
            raise FaultFoundError("\n  ".join(lines))

    def _reopen(self) -> None:
        os.fsync(self._fd)
        self._mapping.unmap()
        os.close(self._fd)
        self._fd = os.open(self._path, os.O_RDWR)
        self._mapping = RawMapping(self._fd, 0, self._pages * PAGE)


class PassingFile:
    """A file of ours beside the crowd's directory, made and removed again and again.

    Its directory is one that the file system may have uses of its own for: the root of a mount.
    """

    def __init__(self, role: Role, dice: Dice) -> None:
        self._name = f"{role.directory}~{role.number}"
        self._dice = dice

    def do_one(self) -> None:
        """Write it, rename it over another, read it by its new name, remove it."""
        path, other = Path(f"{self._name}-new"), Path(f"{self._name}-old")
        data = self._dice.data(self._dice.length(8 * PAGE))
        other.write_bytes(b"old")
        with other.open("rb") as held:
            path.write_bytes(data)
            path.rename(other)
            self._check(other.read_bytes(), data)
            other.unlink()
            self._check(held.read(), b"old")

    def _check(self, actual: bytes, expected: bytes) -> None:
        if actual != expected:
            told = describe_difference(expected, actual, 0, ())
            raise FaultFoundError(f"{self._name}: wrong {told}")
