"""``anonfs stat``: what an inode is, where its pages are, who refers to it; or a mount's memory."""

from dataclasses import asdict
from typing import Annotated

import typer

from anonfs.cli._memory import show_memory
from anonfs.cli._output import JsonOption, console, print_columns, print_json
from anonfs.cli._target import Looked, look
from anonfs.client import anonfs_at, find_mount
from anonfs.inspection import NEVER
from anonfs.units import PAGE_SIZE, format_size

__all__ = ["stat"]


_FileOrMount = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE", help="A path, a name in the mount, or a mountpoint.", show_default=False
    ),
]


def stat(file: _FileOrMount = None, as_json: JsonOption = False) -> None:
    """Show what FILE is: its size, its pages by state, its references.

    Of a mountpoint, or of the mount where no FILE is given, show what its memory costs.
    """
    point = None if file is None else anonfs_at(file)
    if file is None or point is not None:
        show_memory(find_mount(point), as_json=as_json)
    else:
        _show_file(look(file), as_json=as_json)


def _show_file(looked: Looked, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(looked))
        return
    pages, counts = looked.inspection.pages, looked.inspection.counts
    console().print(f"{looked.path}: {looked.inspection.kind}, {format_size(looked.size)}")
    rows = [
        ("pages", pages.total),
        ("  not allocated", pages.none),
        ("  in core", pages.in_core),
        ("  on swap", pages.on_swap),
        *([("  of the file", pages.front)] if looked.inspection.front else []),
        ("reserved", looked.inspection.reserved.pages),
    ]
    print_columns(
        [(name, str(count), format_size(count * PAGE_SIZE)) for name, count in rows], right=(1, 2)
    )
    console().print(
        f"dentry count {counts.dentry}: vm areas {counts.areas}, opens {counts.opens},"
        f" links {counts.links}; loaded PTEs {counts.loaded_ptes}"
    )
    if looked.inspection.front:
        console().print(f"shows {looked.inspection.front.path} where it was not changed")
    if looked.inspection.parent.ino:
        console().print(f"copied from inode {looked.inspection.parent.ino}")
    reap = looked.inspection.reap
    if reap != NEVER:
        whose = f" of process group {reap.group}" if reap.group else ""
        console().print(f"goes by itself with the last vm area{whose}")
    if looked.inspection.locked:
        console().print("locked in core")


def _document(looked: Looked) -> dict[str, object]:
    return {
        "path": str(looked.path),
        "kind": looked.inspection.kind,
        "size": looked.size,
        "pages": asdict(looked.inspection.pages),
        "reserved": asdict(looked.inspection.reserved),
        "counts": asdict(looked.inspection.counts),
        "reap": looked.inspection.reap.render(),
        "locked": looked.inspection.locked,
        "parent": looked.inspection.parent.ino or None,
        "front": asdict(looked.inspection.front) if looked.inspection.front else None,
    }
