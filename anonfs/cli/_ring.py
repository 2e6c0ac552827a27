"""``anonfs ring``: the vm areas of an inode, process by process."""

from dataclasses import asdict
from pathlib import Path

from anonfs.cli._output import FileArgument, JsonOption, console, print_columns, print_json
from anonfs.cli._target import Looked, look
from anonfs.inspection import Area
from anonfs.units import PAGE_SIZE, format_size, pages_for

__all__ = ["ring"]

_TITLES = ("PID", "COMMAND", "ADDRESSES", "SIZE", "FILE PAGES", "PERMS", "KNOWN")


def ring(file: FileArgument, as_json: JsonOption = False) -> None:
    """Show the share ring of FILE: which process maps what of it, and where."""
    looked = look(file)
    if as_json:
        print_json(_document(looked))
        return
    areas = looked.inspection.areas
    processes = len({area.pid for area in areas})
    console().print(f"{looked.path}: vm areas {len(areas)}, processes {processes}")
    if areas:
        print_columns([_row(area) for area in areas], _TITLES, right=(0, 3))
    if not looked.inspection.areas_complete:
        console().print("(there are more areas than an attribute holds)")


def _row(area: Area) -> tuple[str, ...]:
    pid = "?" if area.pid is None else str(area.pid)
    command = _command(area.pid) or "?"
    if area.start is None or area.end is None:
        pages = f"{area.offset // PAGE_SIZE}-"
        return (pid, command, "-", "-", pages, area.perms, area.how)
    size = area.end - area.start
    first = area.offset // PAGE_SIZE
    return (
        pid,
        command,
        f"{area.start:x}-{area.end:x}",
        format_size(size),
        f"{first}-{first + pages_for(size) - 1}",
        area.perms,
        area.how,
    )


def _command(pid: int | None) -> str | None:
    """The name of a process; None once it is gone or where it may not be seen."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _document(looked: Looked) -> dict[str, object]:
    return {
        "path": str(looked.path),
        "complete": looked.inspection.areas_complete,
        "areas": [
            asdict(area) | {"command": _command(area.pid)} for area in looked.inspection.areas
        ],
    }
