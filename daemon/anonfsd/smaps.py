"""Dirty pages: what was stored through mappings and has not been written back, by /proc/PID/smaps.

cachestat(2) would tell it for an inode, and needs a descriptor; but the kernel writes an inode back
whenever a descriptor of it is closed (Linux 6.18), so that asking would change the answer. Pages
of a mount get dirty through mappings alone, and smaps has for each area the part of its dirty pages
that falls to the process (``Pss_Dirty``, Linux 6.0), so that the parts of all add up to the pages.

Like all of /proc it blocks: call `dirty_bytes` in a thread.
"""

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["dirty_bytes"]

_AREA = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+ \S{4} [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) \d+", re.MULTILINE
)
_PART = re.compile(r"^Pss_Dirty:\s+(\d+) kB$", re.MULTILINE)


def dirty_bytes(device: tuple[int, int], pids: Iterable[int]) -> int | None:
    """The dirty bytes in the areas that ``pids`` have of files of ``device`` (major, minor).

    Accurate to a kibibyte for each area. None if the kernel does not tell, or a process does not
    let itself be looked at; one that is gone has none.
    """
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps").read_text("utf-8", "surrogateescape")
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            return None
        parts = parts_of(device, text)
        if None in parts:
            return None
        total += sum(part for part in parts if part is not None)
    return total * 1024


def parts_of(device: tuple[int, int], text: str) -> list[int | None]:
    """The kB of each area of ``device`` in the text of a smaps; None where it does not say."""
    # Text, device and the rest of each area in turn; what is before the first area is nothing.
    pieces = _AREA.split(text)[1:]
    parts: list[int | None] = []
    for major, minor, area in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        if (int(major, 16), int(minor, 16)) == device:
            part = _PART.search(area)
            parts.append(int(part[1]) if part else None)
    return parts
