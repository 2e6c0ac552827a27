"""How a vm area, and the process that has it, are described to people."""

from pathlib import Path

from anonfs.inspection import Area
from anonfs.units import PAGE_SIZE, format_size, pages_for

__all__ = ["command_of", "described"]


def described(area: Area) -> tuple[str, ...]:
    """Its addresses, size, pages of the file, permissions, and how it is known."""
    first = area.offset // PAGE_SIZE
    if area.start is None or area.end is None:
        return ("-", "-", f"{first}-", area.perms, area.how)
    size = area.end - area.start
    return (
        f"{area.start:x}-{area.end:x}",
        format_size(size),
        f"{first}-{first + pages_for(size) - 1}",
        area.perms,
        area.how,
    )


def command_of(pid: int | None) -> str | None:
    """The name of a process; None once it is gone or where it may not be seen."""
    if pid is None:
        return None
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
