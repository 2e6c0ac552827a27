"""Sizes as people write and read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonfs.units import PAGE_SIZE, format_size, pages_for, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("1K", 1024),
        ("64k", 65536),
        ("256M", 256 << 20),
        ("256 MiB", 256 << 20),
        ("1.5G", 3 << 29),
        ("2TB", 2 << 40),
        (" 7M ", 7 << 20),
    ],
)
def test_parses_what_people_write(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1P", "1.M", "1M2", "0x10", "1e3", "1\n2"])
def test_refuses_the_rest_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_size(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (3 << 29, "1.5 GiB"),
        (16 << 40, "16 TiB"),
        (1 << 50, "1024 TiB"),
    ],
)
def test_formats_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1023), st.sampled_from([0, 10, 20, 30, 40]))
def test_whole_units_survive_the_round_trip(number: int, shift: int) -> None:
    assert parse_size(format_size(number << shift)) == number << shift


@given(st.integers(0, 1 << 50))
def test_pages_cover_the_bytes_and_no_more(size: int) -> None:
    assert 0 <= pages_for(size) * PAGE_SIZE - size < PAGE_SIZE
