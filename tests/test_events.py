import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonfs.events import EVENTS, Lost, VmEvent, parse_event_line

numbers = st.none() | st.integers(0, 1 << 63)
events = st.builds(
    VmEvent,
    time=st.integers(0, 1 << 31).map(float),
    inode=st.integers(1, 1 << 40),
    name=st.none() | st.text(st.characters(codec=None), max_size=20),
    event=st.sampled_from(EVENTS),
    pid=numbers,
    parent=numbers,
    start=numbers,
    end=numbers,
    offset=numbers,
    pages=numbers,
)
KEYS = ["time", "inode", "name", "event", "pid", "parent", "start", "end", "offset", "pages"]


@given(events)
def test_an_event_is_one_line_of_ascii_and_comes_back(event: VmEvent) -> None:
    line = event.render()
    assert line.isascii()
    assert line.isprintable()
    assert parse_event_line(line) == event
    found = json.loads(line)
    assert found == asdict(event)
    assert list(found) == KEYS


def test_microseconds_are_kept() -> None:
    event = VmEvent(1700000000.123456, 7, "job \N{GREEK SMALL LETTER PI}\n", "open")
    assert VmEvent.parse(event.render()) == event


@given(st.integers(0, 10**17))
def test_lost_events(count: int) -> None:
    assert Lost(count).render() == f"lost={count}"
    assert parse_event_line(Lost(count).render()) == Lost(count)


def test_a_reader_is_tolerant() -> None:
    line = '{"event": "new", "inode": 7, "time": 3, "colour": "red"}'
    assert parse_event_line(line) == VmEvent(3.0, 7, None, "new")
    assert parse_event_line("lost=3 since=yesterday") == Lost(3)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "7",
        "[]",
        "{",
        "{}",
        "lost=",
        "lost=many",
        '{"time": 1, "inode": "7", "event": "open"}',
        '{"time": null, "inode": 7, "event": "open"}',
        '{"time": 1, "inode": 7}',
        '{"time": 1, "inode": 7, "event": "open", "pid": "1"}',
        '{"time": 1, "inode": 7, "event": "open", "name": 1}',
    ],
)
def test_what_is_no_event(line: str) -> None:
    with pytest.raises(ValueError):
        parse_event_line(line)
