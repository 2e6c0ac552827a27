"""meminfo and swaps read back as what they were written from."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonfs.meminfo import Counters, MemInfo, SwapUsage, parse_swaps, render_swaps

numbers = st.integers(0, 1 << 63)
sizes = st.integers(0, 1 << 53).map(lambda kilobytes: kilobytes * 1024)
counters = st.builds(
    Counters, **dict.fromkeys([f.name for f in dataclasses.fields(Counters)], numbers)
)
paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(
    "/".__add__
)


def _of(item: "dataclasses.Field[Any]") -> Any:
    if item.name == "counters":
        return counters
    values = sizes if item.metadata["unit"] == 1024 else numbers
    return values if item.default is dataclasses.MISSING else st.none() | values


meminfos = st.builds(MemInfo, **{item.name: _of(item) for item in dataclasses.fields(MemInfo)})
_SIZES: Any = {
    item.name: 0
    for item in dataclasses.fields(MemInfo)
    if item.default is dataclasses.MISSING and item.name != "counters"
}
EMPTY = MemInfo(**_SIZES)


@given(meminfos)
def test_meminfo_reads_back(info: MemInfo) -> None:
    assert MemInfo.parse(info.render()) == info


@given(counters)
def test_counters_read_back(counted: Counters) -> None:
    assert Counters.parse(counted.render()) == counted


@given(
    st.lists(
        st.builds(
            SwapUsage,
            st.none() | paths,
            st.sampled_from(["file", "memory"]),
            sizes,
            sizes,
            sizes,
            numbers,
        )
    )
)
def test_swaps_read_back(areas: list[SwapUsage]) -> None:
    text = "".join(f"{line}\n" for line in render_swaps(areas))
    assert parse_swaps(text) == areas
    assert len(text.split("\n")) == len(areas) + 2


def test_lines_are_those_of_proc() -> None:
    info = dataclasses.replace(EMPTY, budget=8 << 20, inodes=17, counters=Counters(swap_in=3))
    lines = info.render().split("\n")
    assert lines[0].split() == ["Budget:", "8192", "kB"]
    assert len({len(line) for line in lines if line.endswith("kB")}) == 1
    assert ["Inodes:", "17"] in [line.split() for line in lines]
    assert "swap_in 3" in lines


def test_what_is_not_known_has_no_line() -> None:
    assert "Dirty" not in EMPTY.render()
    assert MemInfo.parse(EMPTY.render()).dirty is None


def test_later_lines_are_ignored() -> None:
    text = f"Huge:  12 kB\n{EMPTY.render()}\nhuge_faults 5\n\nnot a line at all\n"
    assert MemInfo.parse(text) == EMPTY


def test_a_missing_line_is_named() -> None:
    with pytest.raises(ValueError, match="budget"):
        MemInfo.parse(EMPTY.render().replace("Budget", "Budgets"))


def test_a_path_with_white_space_is_one_word() -> None:
    area = SwapUsage("/a b\t\\c", "file", 4096, 0)
    assert area.render().split() == [r"/a\040b\011\134c", "file", "4", "0", "0", "0"]
