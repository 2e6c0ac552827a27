"""A page map as lines of text: pure, from runs to glyphs.

A cell stands for a group of pages, a power of two, chosen so that the whole file fits into a
fixed number of rows. The work is bounded by runs plus cells, never by pages: a sparse file of
16 TiB costs what one of 16 MiB does::

    00000000 ████████▒▒▒▒▒▒▒▒▄···············
    00020000 ································
    *                                              rows of nothing are not repeated
    003e0000 ···············░················

A group of which a part is not allocated has a lighter glyph than a whole one, so that a single
page in an empty terabyte can still be seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from rich.text import Text

from anonfs.inspection import PageCounts, PageRun
from anonfs.units import PAGE_SIZE, format_size

__all__ = ["ASCII", "BLOCKS", "Cell", "Picture", "cells", "picture"]

MAX_ROWS = 20
"""The rows of a picture, which bound its cells."""

COLUMN_STEP = 16
"""Rows hold a multiple of this many cells, so that the ruler counts in round numbers."""


_STATES = ("none", "in_core", "on_swap", "front")


class Cell(Enum):
    """What is in a group of pages; ``PART`` ones have pages that are not allocated as well."""

    NONE = "not allocated"
    CORE = "in core"
    CORE_PART = "in core, in part"
    SWAP = "on swap"
    SWAP_PART = "on swap, in part"
    BOTH = "in core and on swap"
    FRONT = "of the file below"
    UNKNOWN = "not told"


BLOCKS = dict(zip(Cell, "·█▄▒░▚-?", strict=True))
"""The glyphs for a terminal that has them."""

ASCII = dict(zip(Cell, ".#+=-%:?", strict=True))
"""The glyphs for every other."""

_STYLES = {
    Cell.NONE: "dim",
    Cell.CORE: "green",
    Cell.CORE_PART: "green",
    Cell.SWAP: "magenta",
    Cell.SWAP_PART: "magenta",
    Cell.BOTH: "yellow",
    Cell.FRONT: "dim",
    Cell.UNKNOWN: "red",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """The finished picture: what a cell is, the rows with their ruler, the legend."""

    cell: str
    lines: list[Text]
    legend: Text


def picture(
    pages: PageCounts,
    runs: Sequence[PageRun],
    *,
    complete: bool = True,
    width: int = 80,
    glyphs: dict[Cell, str] = BLOCKS,
) -> Picture:
    """The page map ``runs`` drawn in lines of at most ``width`` columns (of 24 and more)."""
    digits = max(4, len(f"{max(pages.total - 1, 0) * PAGE_SIZE:x}"))
    columns = _columns(width - digits - 1)
    group = _group(pages.total, columns * MAX_ROWS)
    drawn = cells(pages.total, runs, group, complete=complete)
    return Picture(
        cell=f"{group} pages ({format_size(group * PAGE_SIZE)})" if group > 1 else "1 page (4 KiB)",
        lines=_lines(drawn, columns, group, digits, glyphs),
        legend=_legend(drawn, pages, glyphs),
    )


def _columns(room: int) -> int:
    return max(COLUMN_STEP, room - room % COLUMN_STEP)


def _group(total: int, most_cells: int) -> int:
    """The smallest power of two that puts ``total`` pages into ``most_cells`` groups."""
    needed = -(-total // most_cells)
    return 1 << max(needed - 1, 0).bit_length()


def cells(total: int, runs: Iterable[PageRun], group: int, *, complete: bool = True) -> list[Cell]:
    """What each group of ``group`` pages holds; pages that no run names are not allocated.

    When the runs are not ``complete``, the pages behind the last of them are not known.
    """
    count = -(-total // group)
    held: dict[str, list[int]] = {state: [0] * count for state in _STATES}
    strange = [False] * count
    end = 0
    for run in runs:
        end = max(end, run.last + 1)
        first, last = run.first // group, min(run.last // group, count - 1)
        for index in range(first, last + 1):
            if run.state in held:
                begin = max(run.first, index * group)
                held[run.state][index] += min(run.last, (index + 1) * group - 1) - begin + 1
            else:
                strange[index] = True
    if not complete:
        for index in range(end // group, count):
            strange[index] = True
    return [
        _cell({state: held[state][index] for state in held}, size, strange=strange[index])
        for index, size in enumerate(_sizes(total, group))
    ]


def _sizes(total: int, group: int) -> list[int]:
    """The pages in each group: the last may be short."""
    return [min(group, total - first) for first in range(0, total, group)]


def _cell(held: dict[str, int], size: int, *, strange: bool) -> Cell:
    in_core, on_swap = held["in_core"], held["on_swap"]
    if in_core and on_swap:
        return Cell.BOTH
    if in_core:
        return Cell.CORE if in_core >= size else Cell.CORE_PART
    if on_swap:
        return Cell.SWAP if on_swap >= size else Cell.SWAP_PART
    if strange:
        return Cell.UNKNOWN
    return Cell.FRONT if held["front"] else Cell.NONE


def _lines(
    drawn: list[Cell], columns: int, group: int, digits: int, glyphs: dict[Cell, str]
) -> list[Text]:
    """The rows with the offset in bytes before each; ``*`` stands for more empty rows."""
    lines: list[Text] = []
    rows = [drawn[first : first + columns] for first in range(0, len(drawn), columns)]
    empty = [all(cell is Cell.NONE for cell in row) for row in rows]
    for number, row in enumerate(rows):
        inner = 0 < number < len(rows) - 1
        if inner and empty[number] and empty[number - 1]:
            if lines[-1].plain != "*":
                lines.append(Text("*"))
            continue
        line = Text(f"{number * columns * group * PAGE_SIZE:0{digits}x} ")
        for cell in row:
            line.append(glyphs[cell], _STYLES[cell])
        lines.append(line)
    return lines


def _legend(drawn: list[Cell], pages: PageCounts, glyphs: dict[Cell, str]) -> Text:
    """A line of the three states with their pages, and one of the other glyphs that are used."""
    totals = {Cell.CORE: pages.in_core, Cell.SWAP: pages.on_swap, Cell.NONE: pages.none}
    used = set(drawn)

    def entry(cell: Cell, number: str = "") -> Text:
        return Text.assemble((glyphs[cell], _STYLES[cell]), f" {cell.value}{number}")

    gap = Text("   ")
    lines = [gap.join(entry(cell, f" {count}") for cell, count in totals.items())]
    others = [entry(cell) for cell in Cell if cell in used and cell not in totals]
    if others:
        lines.append(gap.join(others))
    return Text("\n").join(lines)
