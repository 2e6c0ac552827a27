"""A watch over a pipe in the place of the stream."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anonfs.client import NotAnonfsError, Watch, watch
from anonfs.events import Lost, VmEvent

OPENED = 1000.0


class Stream:
    """The daemon's end of a pipe."""

    def __init__(self) -> None:
        self.descriptor, self._end = os.pipe()
        os.set_blocking(self.descriptor, False)

    def tell(self, *lines: VmEvent | Lost | str) -> None:
        texts = [line if isinstance(line, str) else line.render() for line in lines]
        self.send("".join(f"{text}\n" for text in texts).encode())

    def send(self, data: bytes) -> None:
        os.write(self._end, data)

    def close(self) -> None:
        if self._end >= 0:
            os.close(self._end)
        self._end = -1


@pytest.fixture
def stream() -> Iterator[Stream]:
    made = Stream()
    yield made
    made.close()


def event(pid: int, kind: str = "open", inode: int = 7, at: float = 2000.0) -> VmEvent:
    return VmEvent(at, inode, None, kind, pid)


def pids(watched: Watch) -> list[int | None]:
    return [event.pid for event in watched]


def test_events_come_in_order_and_pieces_are_put_together(stream: Stream) -> None:
    data = f"{event(1).render()}\n{event(2).render()}\n".encode()
    with Watch(stream.descriptor, None, OPENED, timeout=0) as watched:
        for start in range(0, len(data), 30):
            stream.send(data[start : start + 30])
            assert len(pids(watched)) <= 1
        stream.tell(event(3))
        assert pids(watched) == [3]


def test_an_iterator_ends_with_its_time_or_its_stream(stream: Stream) -> None:
    with Watch(stream.descriptor, None, OPENED, timeout=0.05) as watched:
        begin = time.monotonic()
        assert pids(watched) == []
        assert 0.04 < time.monotonic() - begin < 5
        stream.tell(event(1))
        assert pids(watched) == [1], "it can be taken up again"
    other = Stream()
    other.tell(event(1))
    other.close()
    with Watch(other.descriptor, None, OPENED) as watched:
        assert pids(watched) == [1]
        assert pids(watched) == []
    assert pids(watched) == []
    watched.close()


def test_what_was_lost_is_counted_where_it_is_missing(stream: Stream) -> None:
    with Watch(stream.descriptor, 7, OPENED, timeout=0) as watched:
        stream.tell(event(1), Lost(3), event(2), event(9, inode=8), Lost(2))
        assert (next(watched).pid, watched.lost) == (1, 0)
        assert (next(watched).pid, watched.lost) == (2, 3)
        assert pids(watched) == []
        assert watched.lost == 5


def test_lines_that_are_not_understood_are_passed_over(stream: Stream) -> None:
    with Watch(stream.descriptor, None, OPENED, timeout=0) as watched:
        stream.tell("hello", event(1), "[]", "", event(2, "thaw"))
        assert pids(watched) == [1, 2]


def test_the_past_is_passed_over_unless_asked_for(stream: Stream) -> None:
    old = OPENED - 1
    with Watch(stream.descriptor, None, OPENED, timeout=0) as watched:
        stream.tell(event(1, at=old), event(2), event(3, at=old))
        assert pids(watched) == [2, 3], "a clock may be set back"
    other = Stream()
    with Watch(other.descriptor, 7, OPENED, past=True, timeout=0) as watched:
        other.tell(event(1, at=old), event(2, "delete", at=old), event(3, at=old), event(4))
        assert pids(watched) == [3, 4], "what came before the delete was another file's"
    other.close()


def test_the_delete_of_a_file_is_its_last_event(stream: Stream) -> None:
    with Watch(stream.descriptor, 7, OPENED) as watched:
        stream.tell(event(1), event(2, inode=8), event(3, "delete"), event(4))
        assert pids(watched) == [1, 3]


def test_callbacks_by_a_thread_until_it_is_closed(stream: Stream) -> None:
    called: list[str] = []

    class Operations:
        def open(self, event: VmEvent) -> None:
            called.append(f"open {event.pid}")

        def close(self, event: VmEvent) -> None:
            called.append(f"close {event.pid}")
            watched.close()

        dup = delete = fault = swapout = open  # noqa: A003

    watched = Watch(stream.descriptor, None, OPENED)
    watched.call_back(Operations())
    stream.tell(event(1), event(2, "thaw"), event(3, "close"), event(4))
    assert watched._thread is not None
    watched._thread.join(20)
    assert called == ["open 1", "close 3"]
    assert watched.error is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_fails_ends_the_thread(stream: Stream) -> None:
    def fail(_event: VmEvent) -> None:
        raise ZeroDivisionError

    with Watch(stream.descriptor, None, OPENED) as watched:
        watched.call_back(fail)
        stream.tell(event(1))
        assert watched._thread is not None
        watched._thread.join(20)
    assert isinstance(watched.error, ZeroDivisionError)


def test_a_daemon_that_has_no_events(fake_mount: Path) -> None:
    with pytest.raises(NotAnonfsError, match="mount it anew"):
        watch(mount=fake_mount)
    with pytest.raises(FileNotFoundError):
        watch(fake_mount / "none")
