"""Where two byte strings differ, told so that a cause can be guessed from it."""

from collections.abc import Iterable

from tests.judge._libc import PAGE
from tests.judge._model import Inode

__all__ = ["FaultFoundError", "describe_difference"]

_SHOWN = 16
_SAMPLE = 48


class FaultFoundError(AssertionError):
    """The file system did not do what it must."""


def _first_difference(expected: bytes, actual: bytes) -> int:
    common = min(len(expected), len(actual))
    for start in range(0, common, PAGE):
        end = min(start + PAGE, common)
        if expected[start:end] != actual[start:end]:
            return next(at for at in range(start, end) if expected[at] != actual[at])
    return common


def _last_difference(expected: bytes, actual: bytes) -> int:
    """The last differing byte of two strings of one length."""
    return next(at for at in reversed(range(len(expected))) if expected[at] != actual[at])


def _where_else(sample: bytes, inodes: Iterable[Inode]) -> str:
    """What the wrong bytes look like: zeros, or another page's."""
    if not any(sample):
        return "the actual bytes are zeros"
    for inode in inodes:
        at = inode.data.find(sample)
        if at >= 0:
            return f"the actual bytes belong to page {at // PAGE} of inode {inode.number}"
    return "the actual bytes are nowhere in the model: older, or never written"


def describe_difference(
    expected: bytes, actual: bytes, offset: int, inodes: Iterable[Inode]
) -> str:
    """Lines about the first byte, at ``offset`` and beyond, in which two reads differ."""
    first = _first_difference(expected, actual)
    place = offset + first
    lines = [f"byte {place} (page {place // PAGE}, offset {place % PAGE} in the page)"]
    if len(expected) != len(actual):
        lines.append(f"{len(actual)} bytes instead of {len(expected)}")
    else:
        last = offset + _last_difference(expected, actual)
        lines.append(f"last differing byte {last} (page {last // PAGE}, offset {last % PAGE})")
    lines.append(f"expected {expected[first : first + _SHOWN].hex(' ')}")
    lines.append(f"actual   {actual[first : first + _SHOWN].hex(' ')}")
    sample = actual[first : first + _SAMPLE]
    if len(sample) >= _SHOWN:
        lines.append(_where_else(sample, inodes))
    return "\n".join(lines)
