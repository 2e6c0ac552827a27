"""``anonfs pages``: the page map of an inode as a picture."""

import shutil
import sys
from dataclasses import asdict

from anonfs.cli._output import FileArgument, JsonOption, console, print_json
from anonfs.cli._picture import ASCII, BLOCKS, Picture, picture
from anonfs.cli._target import Looked, look
from anonfs.units import format_size

__all__ = ["pages"]


def pages(file: FileArgument, as_json: JsonOption = False) -> None:
    """Draw where the pages of FILE are: in core, on swap, or not allocated yet."""
    looked = look(file)
    if as_json:
        print_json(_document(looked))
        return
    drawn = _drawn(looked)
    out = console()
    out.print(
        f"{looked.path}: {looked.inspection.pages.total} pages, {format_size(looked.size)};"
        f" a cell is {drawn.cell}"
    )
    for line in drawn.lines:
        out.print(line, soft_wrap=True)
    out.print(drawn.legend, soft_wrap=True)
    if not looked.inspection.complete:
        out.print("(the page map is longer than an attribute holds: its end is not shown)")


def _drawn(looked: Looked) -> Picture:
    inspection = looked.inspection
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return picture(
        inspection.pages,
        inspection.runs,
        complete=inspection.complete,
        width=shutil.get_terminal_size().columns,
        glyphs=BLOCKS if utf8 else ASCII,
    )


def _document(looked: Looked) -> dict[str, object]:
    return {
        "path": str(looked.path),
        "size": looked.size,
        "complete": looked.inspection.complete,
        "pages": asdict(looked.inspection.pages),
        "runs": [asdict(run) for run in looked.inspection.runs],
    }
