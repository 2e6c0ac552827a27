"""Asynchronous reads of a real file, past the page cache."""

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonfs.swap import AsyncReads, FileStore
from anonfs.units import PAGE_SIZE

_PAGES = 16
_SECONDS = 10.0


def page(number: int) -> bytes:
    return bytes([number + 1]) * PAGE_SIZE


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "swap"
    path.write_bytes(b"".join(map(page, range(_PAGES))))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    yield fd
    os.close(fd)


@pytest.fixture
def reads(fd: int) -> Iterator[AsyncReads]:
    with AsyncReads(fd, 4) as reads:
        yield reads


def come(reads: AsyncReads, count: int) -> dict[int, bytes | int | None]:
    """The bytes of so many reads, or their errno, by number."""
    found: dict[int, bytes | int | None] = {}
    reads.submit()
    with select.epoll() as ready:
        ready.register(reads, select.EPOLLIN | select.EPOLLET)
        while len(found) < count:
            assert ready.poll(_SECONDS), "nothing comes"
            for number, data, error in reads.completed():
                found[number] = error.errno if error else bytes(data)
    return found


def test_pages_side_by_side(reads: AsyncReads) -> None:
    expected = {}
    for at in (3, 0, 15, 7):
        number = reads.ask(at * PAGE_SIZE)
        assert number is not None
        expected[number] = page(at)
    assert reads.under_way == 4
    assert come(reads, 4) == expected
    assert reads.under_way == 0


def test_too_many_at_a_time(reads: AsyncReads) -> None:
    numbers = [reads.ask(0) for _ in range(5)]
    assert numbers[4] is None
    assert None not in numbers[:4]
    come(reads, 4)
    assert reads.ask(0) is not None, "there is room again"


def test_beyond_the_end_is_an_error(reads: AsyncReads) -> None:
    number = reads.ask(_PAGES * PAGE_SIZE)
    assert number is not None
    assert come(reads, 1) == {number: errno.EIO}


def test_nothing_has_come(reads: AsyncReads) -> None:
    assert list(reads.completed()) == []


def test_what_the_kernel_refuses_is_an_error_of_that_page_alone(reads: AsyncReads) -> None:
    first, bad, last = reads.ask(0), reads.ask(-PAGE_SIZE), reads.ask(PAGE_SIZE)
    assert come(reads, 3) == {first: page(0), bad: errno.EINVAL, last: page(1)}
    assert reads.under_way == 0


def test_there_can_be_too_many_contexts(fd: int) -> None:
    with pytest.raises(OSError):
        AsyncReads(fd, 1 << 30)


def test_a_store_has_them_where_it_goes_past_the_page_cache(tmp_path: Path) -> None:
    store = FileStore.create(tmp_path / "a", PAGE_SIZE)
    try:
        reads = store.async_reads(4)
        assert reads is not None
        reads.close()
    finally:
        store.close()
    fd = os.open(tmp_path / "b", os.O_RDWR | os.O_CREAT)
    cached = FileStore(fd, PAGE_SIZE)
    try:
        assert cached.async_reads(4) is None
    finally:
        cached.close()
