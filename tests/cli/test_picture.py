"""The page map as text: pure, so every glyph can be checked."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonfs.cli._picture import ASCII, BLOCKS, MAX_ROWS, Cell, Picture, cells, picture
from anonfs.inspection import PageCounts, PageRun

STATES = ("none", "in_core", "on_swap")


def counted(total: int, runs: list[PageRun]) -> PageCounts:
    held = dict.fromkeys(STATES, 0)
    for run in runs:
        held[run.state] += run.last - run.first + 1
    in_core, on_swap = held["in_core"], held["on_swap"]
    return PageCounts(total, total - in_core - on_swap, in_core, on_swap)


def drawn(total: int, runs: list[PageRun], width: int = 80) -> Picture:
    return picture(counted(total, runs), runs, width=width, glyphs=ASCII)


def plain(shown: Picture) -> list[str]:
    return [line.plain for line in shown.lines]


def test_one_cell_is_one_page_where_there_is_room() -> None:
    runs = [PageRun(0, 2, "in_core"), PageRun(3, 4, "on_swap"), PageRun(5, 7, "none")]
    shown = drawn(8, runs)
    assert shown.cell == "1 page (4 KiB)"
    assert plain(shown) == ["0000 ###==..."]
    assert shown.legend.plain == "# in core 3   = on swap 2   . not allocated 3"


def test_what_an_overlay_shows_of_its_file_is_told_from_holes() -> None:
    runs = [PageRun(0, 1, "front"), PageRun(2, 2, "in_core"), PageRun(3, 4, "none")]
    shown = picture(PageCounts(5, 2, 1, 0, 2), runs, glyphs=ASCII)
    assert plain(shown) == ["0000 ::#.."]
    assert shown.legend.plain.endswith("\n: of the file below")


def test_rows_begin_with_their_byte() -> None:
    runs = [PageRun(0, 99, "in_core")]
    assert plain(drawn(100, runs, width=40)) == [
        "00000 " + "#" * 32,
        "20000 " + "#" * 32,
        "40000 " + "#" * 32,
        "60000 " + "#" * 4,
    ]


def test_groups_that_are_mixed_show_what_they_hold() -> None:
    runs = [
        PageRun(0, 1, "in_core"),
        PageRun(2, 2, "in_core"),
        PageRun(4, 5, "on_swap"),
        PageRun(7, 7, "on_swap"),
        PageRun(8, 8, "in_core"),
        PageRun(9, 9, "on_swap"),
    ]
    assert cells(13, runs, 2) == [
        Cell.CORE,
        Cell.CORE_PART,
        Cell.SWAP,
        Cell.SWAP_PART,
        Cell.BOTH,
        Cell.NONE,
        Cell.NONE,
    ]


def test_a_short_last_group_can_be_whole() -> None:
    assert cells(5, [PageRun(4, 4, "in_core")], 4) == [Cell.NONE, Cell.CORE]


def test_what_was_not_told_is_not_made_up() -> None:
    runs = [PageRun(0, 1, "in_core"), PageRun(2, 3, "lost")]
    assert cells(6, runs, 1, complete=False) == [Cell.CORE] * 2 + [Cell.UNKNOWN] * 4
    shown = picture(PageCounts(6, 0, 6, 0), runs, complete=False, glyphs=ASCII)
    assert "? not told" in shown.legend.plain


def test_a_huge_sparse_file_takes_no_time_and_shows_its_one_page() -> None:
    total = 1 << 32
    runs = [PageRun(0, 0, "none"), PageRun(1 << 31, 1 << 31, "on_swap")]
    begin = time.process_time()
    shown = drawn(total, runs)
    assert time.process_time() - begin < 1
    assert shown.cell == "4194304 pages (16 GiB)"
    rows = plain(shown)
    assert rows[0] == "00000000000 " + "." * 64
    assert rows[1] == "*"
    assert rows[2] == "80000000000 -" + "." * 63
    assert "- on swap, in part" in shown.legend.plain


def test_an_empty_file_is_an_empty_picture() -> None:
    shown = drawn(0, [])
    assert plain(shown) == []
    assert shown.legend.plain == "# in core 0   = on swap 0   . not allocated 0"


@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII])
def test_glyphs_tell_the_cells_apart_without_colour(glyphs: dict[Cell, str]) -> None:
    assert set(glyphs) == set(Cell)
    assert len(set(glyphs.values())) == len(Cell)
    assert all(len(glyph) == 1 for glyph in glyphs.values())


@st.composite
def page_maps(draw: st.DrawFn) -> tuple[int, list[PageRun]]:
    lengths = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=30))
    runs, first = [], 0
    for length in lengths:
        runs.append(PageRun(first, first + length - 1, draw(st.sampled_from(STATES))))
        first += length
    return first, runs


@given(page_maps(), st.sampled_from([1, 2, 8, 64, 1024]))
def test_cells_agree_with_a_count_page_by_page(
    page_map: tuple[int, list[PageRun]], group: int
) -> None:
    total, runs = page_map
    pages = [run.state for run in runs for _ in range(run.first, run.last + 1)]
    expected = []
    for first in range(0, total, group):
        held = set(pages[first : first + group])
        if {"in_core", "on_swap"} <= held:
            expected.append(Cell.BOTH)
        elif "in_core" in held:
            expected.append(Cell.CORE if held == {"in_core"} else Cell.CORE_PART)
        elif "on_swap" in held:
            expected.append(Cell.SWAP if held == {"on_swap"} else Cell.SWAP_PART)
        else:
            expected.append(Cell.NONE)
    assert cells(total, runs, group) == expected


@given(page_maps(), st.integers(24, 300))
def test_it_fits_the_terminal(page_map: tuple[int, list[PageRun]], width: int) -> None:
    shown = drawn(*page_map, width=width)
    assert len(shown.lines) <= MAX_ROWS
    assert all(len(line.plain) <= width for line in shown.lines)
