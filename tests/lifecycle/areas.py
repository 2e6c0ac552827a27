"""The areas of a file: as its ring tells them, and as /proc shows them without the daemon."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from anonfs.inspection import Area, parse_lines

__all__ = ["all_areas_in_proc", "areas_in_proc", "place_in_proc", "ring_in_order", "ring_of"]


def ring_of(file: Path | int) -> list[Area]:
    """The ring, oldest area first."""
    lines, complete = parse_lines(os.getxattr(file, "user.anonfs.ring").decode())
    assert complete
    return [Area.parse(line) for line in lines]


def ring_in_order(file: Path | int) -> list[Area]:
    """The ring, by process and address."""
    return sorted(ring_of(file), key=_order)


def place_in_proc(file: Path | int) -> tuple[str, str]:
    """How /proc/PID/maps names the file: its device, and its number there."""
    status = os.stat(file)  # noqa: PTH116  it may be a descriptor
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}", str(status.st_ino)


def areas_in_proc(file: Path | int, pids: Iterable[int], how: str = "attached") -> list[Area]:
    """What /proc shows of the file in these processes, by process and address."""
    wanted = place_in_proc(file)
    found = []
    for pid in pids:
        for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
            span, perms, offset, device, ino = line.split()[:5]
            if (device, ino) == wanted:
                start, end = (int(part, 16) for part in span.split("-"))
                found.append(Area(pid, start, end, int(offset, 16), perms, how))
    return sorted(found, key=_order)


def all_areas_in_proc(file: Path | int, how: str = "attached") -> list[Area]:
    """The same of whoever has it mapped and may be looked at."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(FileNotFoundError, PermissionError, ProcessLookupError):
                found += areas_in_proc(file, [int(entry.name)], how)
    return sorted(found, key=_order)


def _order(area: Area) -> tuple[int, int]:
    return area.pid or 0, area.start or 0
