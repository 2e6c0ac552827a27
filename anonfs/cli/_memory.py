"""``anonfs stat`` of a mount: what its memory costs, as a bar and in numbers, and its limits.

The bar is as long as the budget, or as the cost where that is more::

    ████████████░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒····························
    frames used │free│ loaded    │ left of the budget
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from anonfs.cli._limits import limit_rows, user_rows
from anonfs.cli._output import console, print_columns, print_json
from anonfs.client import limits, meminfo, swaps
from anonfs.meminfo import MemInfo
from anonfs.units import format_size

__all__ = ["bar", "show_memory"]

_WIDTH = 64
_BLOCKS = "█░▒·"
_ASCII = "#:=."
_STYLES = ("green", "dim green", "cyan", "dim")
_NAMES = ("frames used", "frames free", "loaded", "left of the budget")


def show_memory(mount: Path, *, as_json: bool) -> None:
    """Show what the memory of the anonfs at ``mount`` costs. Raises OSError."""
    info, limited = meminfo(mount), limits(mount)
    if as_json:
        areas = [asdict(area) for area in swaps(mount)]
        document = {"path": str(mount), "meminfo": asdict(info), "swaps": areas}
        print_json({**document, **asdict(limited)})
        return
    out = console()
    out.print(f"{mount}: budget {format_size(info.budget)}, cost {format_size(info.cost)}")
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    glyphs = _BLOCKS if utf8 else _ASCII
    out.print(bar(info, glyphs))
    out.print(_legend(glyphs), soft_wrap=True)
    print_columns([(name, format_size(size)) for name, size in _sizes(info)], right=(1,))
    areas_known = "" if info.areas is None else f", vm areas {info.areas}"
    out.print(f"inodes {info.inodes}{areas_known}")
    for rows in (limit_rows(limited), user_rows(limited)):
        if rows:
            print_columns(rows, right=(1, 2, 3))
    counted = asdict(info.counters).items()
    events = [(name, str(count)) for name, count in counted if count]
    if events:
        print_columns(events, right=(1,))


def bar(info: MemInfo, glyphs: str = _BLOCKS, width: int = _WIDTH) -> Text:
    """A line of ``width`` glyphs, shared out in order."""
    parts = _parts(info)
    whole = max(sum(parts), 1)
    line, end, before = Text(), 0, 0
    for part, glyph, style in zip(parts, glyphs, _STYLES, strict=True):
        end += part
        cells = round(width * end / whole) - before
        line.append(glyph * cells, style)
        before += cells
    return line


def _parts(info: MemInfo) -> tuple[int, int, int, int]:
    """The bytes of each part of the bar."""
    unused = max(0, info.frames - info.frames_used)
    left = max(0, info.budget - info.cost)
    return info.frames_used, unused, info.loaded, left


def _legend(glyphs: str) -> Text:
    legend = Text()
    for glyph, style, name in zip(glyphs, _STYLES, _NAMES, strict=True):
        legend.append(glyph, style).append(f" {name}   ")
    legend.rstrip()
    return legend


def _sizes(info: MemInfo) -> Iterator[tuple[str, int]]:
    yield "budget", info.budget
    yield "cost", info.cost
    yield "  frames", info.frames
    yield "    used", info.frames_used
    yield "  loaded", info.loaded
    if info.dirty is not None:
        yield "    dirty", info.dirty
    yield "swap", info.swap_total
    yield "  free", info.swap_free
    yield "  cached", info.swap_cached
    yield "  retired", info.swap_retired
    yield "promised", info.promised
    yield "promisable", info.promisable
    yield "locked", info.locked
