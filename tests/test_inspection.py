"""Every attribute reads back as what it was written from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonfs.inspection import (
    XATTR_MAX,
    Area,
    Attaches,
    Counts,
    Front,
    PageCounts,
    PageRun,
    Reap,
    Reserved,
    bounded_lines,
    parse_lines,
)

numbers = st.integers(0, 1 << 63)


@given(numbers, numbers, numbers, numbers, numbers)
def test_page_counts_read_back(
    total: int, none: int, in_core: int, on_swap: int, front: int
) -> None:
    counts = PageCounts(total, none, in_core, on_swap, front)
    assert PageCounts.parse(counts.render()) == counts


@given(numbers, numbers, st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_front_reads_back(device: int, size: int, path: str) -> None:
    front = Front(device, device, size, path)
    assert Front.parse(front.render()) == front


@given(numbers)
def test_reserved_reads_back(pages: int) -> None:
    assert Reserved.parse(Reserved(pages).render()) == Reserved(pages)


@given(numbers, numbers, numbers, numbers, numbers)
def test_counts_read_back(
    dentry: int, areas: int, opens: int, links: int, loaded_ptes: int
) -> None:
    counts = Counts(dentry, areas, opens, links, loaded_ptes)
    assert Counts.parse(counts.render()) == counts


@given(numbers, numbers, numbers, numbers)
def test_attaches_read_back(nattch: int, lpid: int, atime: int, dtime: int) -> None:
    attaches = Attaches(nattch, lpid, atime, dtime)
    assert Attaches.parse(attaches.render()) == attaches


@given(numbers, numbers, st.sampled_from(["none", "in_core", "on_swap"]))
def test_runs_read_back(first: int, last: int, state: str) -> None:
    run = PageRun(first, last, state)
    assert PageRun.parse(run.render()) == run


@given(st.integers(1, 1 << 22), st.none() | st.tuples(numbers, numbers), numbers)
def test_areas_read_back(pid: int, span: tuple[int, int] | None, offset: int) -> None:
    start, end = span or (None, None)
    area = Area(pid, start, end, offset, "rw-s")
    assert Area.parse(area.render()) == area


@pytest.mark.parametrize("text", ["never", "last-area", "last-attach 7"])
def test_reaping_reads_back(text: str) -> None:
    assert Reap.parse(f" {text}\n").render() == text


@pytest.mark.parametrize("text", ["", "ever", "last-area 7", "never 0", "last-attach 07"])
def test_reaping_is_one_of_three(text: str) -> None:
    with pytest.raises(ValueError, match="is not never, last-area"):
        Reap.parse(text)


def test_later_words_are_ignored() -> None:
    text = "total=4 none=1 in_core=2 on_swap=1 front=0 loaded=3\n"
    assert PageCounts.parse(text) == PageCounts(4, 1, 2, 1)


def test_a_missing_word_is_named() -> None:
    with pytest.raises(ValueError, match="on_swap"):
        PageCounts.parse("total=4 none=1 in_core=2")


@given(st.lists(st.text("abc 0-", min_size=1), max_size=20), st.integers(8, 200))
def test_cut_lines_are_a_prefix_and_say_so(lines: list[str], limit: int) -> None:
    text = bounded_lines(lines, limit)
    assert len(text) <= limit
    kept, complete = parse_lines(text)
    assert kept == lines[: len(kept)]
    assert complete == (len(kept) == len(lines))


def test_an_attribute_is_never_longer_than_the_kernel_takes() -> None:
    runs = (PageRun(page, page, "in_core").render() for page in range(10_000))
    text = bounded_lines(runs)
    assert XATTR_MAX - 100 < len(text) <= XATTR_MAX
    assert not parse_lines(text)[1]
