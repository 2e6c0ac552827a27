"""Who is looked at because of an event, and in which order."""

import pytest
import trio

from anonfsd._changed_processes import ChangedProcesses


class Waiting:
    """Changed processes, some of which have areas."""

    def __init__(self, *with_areas: int) -> None:
        self.with_areas = set(with_areas)
        self.exact: set[int] = set()
        self.changed = ChangedProcesses(self.with_areas.__contains__, self.exact.__contains__)

    def taken(self, most: int = 100) -> list[int]:
        pids = self.changed.take(most)
        self.changed.done()
        return pids


def test_those_without_areas_do_not_matter() -> None:
    waiting = Waiting(10)
    waiting.changed.forked(11, 12)
    waiting.changed.execed(11)
    waiting.changed.exited(11, 11)
    assert waiting.taken() == []


def test_a_child_is_looked_at_with_its_parent() -> None:
    waiting = Waiting(10)
    waiting.changed.forked(10, 11)
    assert waiting.taken() == [10, 11]


def test_descendants_that_nobody_has_looked_at_yet_matter() -> None:
    waiting = Waiting(10)
    waiting.changed.forked(10, 11)
    waiting.changed.forked(11, 12)
    assert waiting.changed.take(2) == [10, 11]
    waiting.changed.forked(11, 13)  # while 11 is looked at
    waiting.changed.done()
    assert waiting.taken() == [12, 11, 13]


def test_a_burst_is_one_look_at_each() -> None:
    waiting = Waiting(10)
    for child in range(11, 31):
        waiting.changed.forked(10, child)
        waiting.changed.execed(child)
        waiting.changed.exited(child, child)
    assert waiting.taken() == [10, *range(11, 31)]
    assert waiting.taken() == []


def test_of_those_who_are_reported_on_an_exec_alone_matters() -> None:
    waiting = Waiting(10)
    waiting.exact.add(10)
    waiting.changed.openers.add(10)
    waiting.changed.forked(10, 11)
    waiting.changed.exited(10, 10)
    assert not waiting.changed.some
    waiting.changed.execed(10)
    waiting.changed.forked(10, 12)  # nobody knows yet what it has now
    assert waiting.taken() == [10, 12]


def test_an_opener_may_have_mapped() -> None:
    waiting = Waiting()
    waiting.changed.openers.add(10)
    waiting.changed.forked(10, 11)
    assert waiting.taken() == [10, 11]
    waiting.changed.exited(10, 10)
    assert waiting.taken() == [10]
    assert not waiting.changed.openers


def test_threads_matter_once_the_first_one_has_ended() -> None:
    waiting = Waiting(10)
    waiting.changed.exited(12, 10)
    assert waiting.taken() == []
    waiting.changed.exited(10, 10)
    assert waiting.taken() == [10]
    waiting.changed.exited(11, 10)
    waiting.with_areas.clear()
    assert waiting.taken() == [10]
    waiting.changed.exited(13, 10)
    assert waiting.taken() == []


def test_exec_from_a_thread_makes_it_the_first_one() -> None:
    waiting = Waiting(10)
    waiting.changed.exited(10, 10)
    waiting.changed.execed(10)
    assert waiting.taken() == [10]
    waiting.changed.exited(11, 10)
    assert waiting.taken() == []


def test_those_who_are_not_taken_are_waited_for_again() -> None:
    waiting = Waiting(10, 20)
    waiting.changed.execed(10)
    waiting.changed.execed(20)

    async def script() -> None:
        with trio.fail_after(20):
            for pid in (10, 20):
                await waiting.changed.wait()
                assert waiting.taken(1) == [pid]
            with trio.move_on_after(0):
                await waiting.changed.wait()
                pytest.fail("nobody waits")

    trio.run(script)


def test_a_loss_is_a_look_at_everybody_once() -> None:
    waiting = Waiting()
    waiting.changed.lost()
    assert waiting.changed.take_all()
    assert not waiting.changed.take_all()
