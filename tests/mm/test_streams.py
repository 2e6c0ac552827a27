"""Streams found by their READs, and what is read ahead of them."""

import itertools
from collections.abc import Iterator

import pytest

from anonfs.mm import AnonInodeInfo, Memory, Streams
from tests.mm.engine import engine, inode

LARGEST = 512


@pytest.fixture
def memory() -> Iterator[Memory]:
    with engine() as memory:
        yield memory


@pytest.fixture
def info(memory: Memory) -> AnonInodeInfo:
    return inode(memory)


def read_in_order(
    streams: Streams, info: AnonInodeInfo, first: int, pages: int
) -> list[tuple[int, int]]:
    """READs of single pages one after the other, of what was not read ahead."""
    ahead: list[tuple[int, int]] = []
    for page in range(first, first + pages):
        if not any(start <= page < start + count for start, count in ahead):
            ahead += streams.note(info, page, 1)
    return ahead


def test_two_reads_are_no_stream(info: AnonInodeInfo) -> None:
    streams = Streams(LARGEST)
    assert streams.note(info, 0, 4) == []
    assert streams.note(info, 4, 4) == []
    assert streams.note(info, 100, 4) == []


def test_windows_double_and_have_a_page_between_them(info: AnonInodeInfo) -> None:
    ahead = read_in_order(Streams(LARGEST), info, 0, 5000)
    assert [count for _, count in ahead[:4]] == [128, 256, 512, 512]
    for (start, count), (following, _) in itertools.pairwise(ahead):
        assert following == start + count + 1, "the marker"


def test_a_reader_has_a_window_before_it(info: AnonInodeInfo) -> None:
    """When the last page of a window is read the next one was asked for long ago."""
    streams = Streams(LARGEST)
    first, second = read_in_order(streams, info, 0, 3)
    marker = sum(first)
    assert streams.note(info, marker + 1, 4) == [], "within what is read ahead"
    assert streams.note(info, marker, 1) == [(sum(second) + 1, LARGEST)]
    assert streams.note(info, marker, 1) == []


def test_two_readers_of_one_inode(info: AnonInodeInfo) -> None:
    streams = Streams(LARGEST)
    far = 1 << 20
    ahead = []
    for page in range(3):
        ahead += streams.note(info, page, 1)
        ahead += streams.note(info, far + page, 1)
    assert len(ahead) == 4
    assert {start >= far for start, _ in ahead} == {True, False}


def test_random_reads_are_no_stream(info: AnonInodeInfo) -> None:
    streams = Streams(LARGEST)
    pages = [(page * 7919) % 100_003 for page in range(5000)]
    assert sum(len(streams.note(info, page, 1)) for page in pages) == 0


def test_what_is_known_is_bounded(memory: Memory) -> None:
    streams = Streams(LARGEST)
    for number in range(2, 500):
        info = inode(memory, number)
        for page in range(0, 100, 10):
            streams.note(info, page, 1)
    assert len(streams._streams) == 64
    assert max(map(len, streams._streams.values())) == 4
