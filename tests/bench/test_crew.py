"""Workers on a file of the disk: they do all phases, and find a page that is not as it was."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crew import crew
from pages import MIB
from places import BenchError, Place
from syscalls import cachestat
from worker import Plan

PLAN = Plan(0, 2, 4 * MIB, 128, 1000)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place("disk", tmp_path)


@pytest.fixture
def segment(place: Place) -> Iterator[int]:
    with place.scratch() as fd:
        os.ftruncate(fd, PLAN.size)
        try:
            cachestat(fd)
        except OSError:
            pytest.skip("no cachestat(2) before Linux 6.5")
        yield fd


def test_all_phases_count_their_work(place: Place, segment: int) -> None:
    with crew(place, segment, PLAN) as hands:
        work = {phase: hands.run(phase) for phase in ("write", "read", "random_advised", "zipf")}
        hands.run("check_zipf")
        assert len(hands.run_one("resident_read").parts) == 1
    amounts = {phase: [part.amount for part in done.parts] for phase, done in work.items()}
    assert amounts["write"] == amounts["read"] == [2 * MIB, 2 * MIB]
    assert amounts["random_advised"] == [128, 128]
    assert amounts["zipf"] == [1000, 1000]
    assert work["read"].memory[-1] == PLAN.size
    assert all(done.rate > 0 and done.latency > 0 for done in work.values())


@pytest.mark.parametrize(("at", "phase"), [(0, "read"), (5000, "read"), (4096, "check_zipf")])
def test_a_changed_page_is_found(place: Place, segment: int, at: int, phase: str) -> None:
    with crew(place, segment, PLAN) as hands:
        hands.run("write")
        if phase == "check_zipf":
            hands.run("zipf")
            # Words 1 and 2 of every page are where the workers write.
            for page in range(PLAN.size // 4096):
                os.pwrite(segment, b"?" * 16, page * 4096 + 8)
        else:
            os.pwrite(segment, b"?", at)
        with pytest.raises(BenchError, match="a worker ended"):
            hands.run(phase)


def test_a_lost_worker_is_an_error(place: Place, segment: int) -> None:
    with crew(place, segment, PLAN) as hands, pytest.raises(BenchError, match="a worker ended"):
        hands.run("no_such_phase")
