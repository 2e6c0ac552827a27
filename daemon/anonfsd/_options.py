"""What a mount is made with, and whether it can be."""

import argparse
import errno
from dataclasses import dataclass
from pathlib import Path

import psutil

from anonfs.client import mount_at
from anonfs.limits import Limits
from anonfs.swap import FileStore
from anonfs.units import NUMBERS, PAGE_SHIFT, PAGE_SIZE, format_size, parse_size

__all__ = ["OptionError", "Options", "parse_arguments"]

_SMALLEST_BUDGET = 512 * PAGE_SIZE  # one leaf; a WRITE of 256 pages must find room in it
_LOCKED_SHARE = 16  # of the budget, that one user may lock
_LARGEST_SWAP = NUMBERS * PAGE_SIZE  # of which number 0 means none, and is not used


class OptionError(Exception):
    """Why an option cannot be had, in one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a mount; sizes in bytes, ``ends_with`` a pidfd (pidfd_open(2)) or None."""

    mountpoint: Path
    budget: int
    swap: Path | None
    swap_size: int
    keep_swap: bool
    overcommit: bool
    limits: Limits
    check: bool
    ends_with: int | None
    over: bool

    @classmethod
    def checked(cls, given: argparse.Namespace) -> "Options":
        """What was `parse_arguments`, checked. Raises OptionError: a size cannot be had."""
        return cls(
            mountpoint=_resolved(given.mountpoint),
            budget=(budget := _budget(given.budget)),
            swap=given.swap.absolute() if given.swap else None,
            swap_size=_swap_size(given.swap_size),
            keep_swap=given.keep_swap,
            overcommit=given.overcommit,
            limits=_limits(given, budget),
            check=given.check,
            ends_with=given.ends_with,
            over=given.over,
        )

    @property
    def frames(self) -> int:
        """The budget in pages."""
        return self.budget >> PAGE_SHIFT

    def make_swap(self) -> FileStore:
        """The swap file. Raises OptionError: it cannot be made."""
        try:
            return FileStore.create(self.swap, self.swap_size, keep=self.keep_swap)
        except OSError as error:
            raise OptionError(_describe(error, self.swap)) from None

    def remove_kept_swap(self) -> None:
        """Leave no swap file behind after all, since there will be no mount."""
        if self.keep_swap and self.swap is not None:
            self.swap.unlink(missing_ok=True)


def _resolved(path: Path) -> Path:
    """``path`` without links, found without touching a mount on it that may not answer."""
    plain = path.parent.resolve() / path.name
    return plain if mount_at(plain) is not None else plain.resolve()


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The words of a command line; argparse exits with 2 for what is none."""
    parser = argparse.ArgumentParser("anonfsd", description="Serve an anonfs mount.")
    parser.add_argument("mountpoint", type=Path, help="an empty directory")
    parser.add_argument("--budget", default="256M", help="memory for pages in core")
    parser.add_argument("--swap", type=Path, help="path of the swap file")
    parser.add_argument("--swap-size", default="1G", help="size of the swap file")
    parser.add_argument("--keep-swap", action="store_true", help="leave the file its name")
    parser.add_argument("--overcommit", action="store_true", help="sizes are free, pages are not")
    parser.add_argument("--over", action="store_true", help="the directory need not be empty")
    parser.add_argument("--size", help="what all files together may have")
    parser.add_argument("--max-segment", help="what one file may have")
    parser.add_argument("--max-per-user", help="what all files of a user may have")
    parser.add_argument("--max-files-per-user", type=int, help="how many files a user may have")
    parser.add_argument("--max-locked-per-user", help="what a user may lock in core")
    parser.add_argument("--check", action="store_true", help="keep checking invariants (slow)")
    parser.add_argument(
        "--ends-with", type=int, metavar="PIDFD", help="end after this process and who has files"
    )
    parser.add_argument("--ready-fd", type=int, help="tell on this descriptor when mounted")
    return parser.parse_args(arguments)


def _size(text: str, option: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise OptionError(f"{option}: {error}") from None


def _budget(text: str) -> int:
    budget = _size(text, "--budget")
    if budget < _SMALLEST_BUDGET:
        least = format_size(_SMALLEST_BUDGET)
        raise OptionError(f"--budget {text} is too small: {least} is the least")
    available = psutil.virtual_memory().available
    if budget > available:
        raise OptionError(
            f"--budget {text} is more than the {format_size(available)} of memory available"
        )
    return budget


def _swap_size(text: str) -> int:
    size = _size(text, "--swap-size")
    if not PAGE_SIZE <= size <= _LARGEST_SWAP:
        bounds = f"between {format_size(PAGE_SIZE)} and {format_size(_LARGEST_SWAP)}"
        raise OptionError(f"--swap-size {text} is not {bounds}")
    return size & -PAGE_SIZE


def _limits(given: argparse.Namespace, budget: int) -> Limits:
    files = given.max_files_per_user
    if files is not None and files < 1:
        raise OptionError(f"--max-files-per-user {files} is too small: 1 is the least")
    locked = _limit(given.max_locked_per_user, "--max-locked-per-user", least=0)
    return Limits(
        size=_limit(given.size, "--size"),
        segment=_limit(given.max_segment, "--max-segment"),
        per_user=_limit(given.max_per_user, "--max-per-user"),
        files_per_user=files,
        locked_per_user=budget // _LOCKED_SHARE & -PAGE_SIZE if locked is None else locked,
    )


def _limit(text: str | None, option: str, least: int = PAGE_SIZE) -> int | None:
    """A limit in whole pages. Raises OptionError."""
    if text is None:
        return None
    size = _size(text, option)
    if size < least:
        raise OptionError(f"{option} {text} is too small: {format_size(least)} is the least")
    return size & -PAGE_SIZE


def _describe(error: OSError, path: Path | None) -> str:
    """An error of the swap file for the person who chose its path and size."""
    number = error.errno or 0
    if number == errno.EEXIST and path is not None:
        # O_EXCL says so of whatever is there.
        number = errno.ELOOP if path.is_symlink() else errno.EISDIR if path.is_dir() else number
    name = path or "in /var/tmp"
    advice = {
        errno.EISDIR: "is a directory: name a file",
        errno.EEXIST: "exists already: remove it or name another",
        errno.ELOOP: "is a symbolic link: name a file",
        errno.ENOENT: "is in a directory that does not exist: make it first",
        errno.ENOSPC: "does not fit on its disk: choose a smaller --swap-size or another disk",
        errno.EFBIG: "is larger than its file system can hold: choose a smaller --swap-size",
        errno.EACCES: "may not be written by you: name another path",
        errno.EROFS: "is on a read-only file system: name another path",
    }
    return f"swap file {name} {advice.get(number, f'cannot be made: {error.strerror}')}"
