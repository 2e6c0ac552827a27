"""The judge without a mount: it passes what works, finds what lies, and replays."""

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from tests.judge._actor import Actor
from tests.judge._crew import CallFailedError, Crew, Local
from tests.judge._libc import PAGE
from tests.judge._stage import Limits
from tests.judge.crowd import crowd_directory
from tests.judge.judge import Judge, judge_directory
from tests.judge.report import FaultFoundError, describe_difference
from tests.support.programs import environment, python

_SMALL = Limits(live=2 << 20, file=1 << 20)


class _LosesLastByte(Actor):
    """Writes that end within a page lose a byte."""

    def pwrite(self, handle: int, offset: int, data: bytes) -> int:
        partial = (offset + len(data)) % PAGE and len(data) > 1
        done = super().pwrite(handle, offset, data[:-1] if partial else data)
        return done + 1 if partial else done


class _KeepsDataAtTruncate(Actor):
    """O_TRUNC is ignored."""

    def open(self, handle: int, name: str, flags: int) -> None:
        super().open(handle, name, flags & ~os.O_TRUNC)


class _ReadsShort(Actor):
    """Reads end at the first page."""

    def pread(self, handle: int, offset: int, length: int) -> bytes:
        return super().pread(handle, offset, min(length, PAGE))


class _Deaf(Actor):
    """Cannot swap out on demand."""

    def swap_out(self, handle: int, pages: str) -> bool:
        del handle, pages
        return False


def _judge(place: Path, actor: type[Actor], *, must_swap_out: bool = False) -> Judge:
    local = Local(actor(str(place / "judged")))
    local.call("make_directory")
    return Judge([local], 1, _SMALL, must_swap_out=must_swap_out)


def test_a_file_system_that_works_passes(tmp_path: Path) -> None:
    assert judge_directory(str(tmp_path), 1, 600, limits=_SMALL) == 600
    assert list(tmp_path.iterdir()) == []


def test_a_crowd_passes(tmp_path: Path) -> None:
    assert crowd_directory(str(tmp_path), 1, 1.0, workers=2) > 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("actor", [_LosesLastByte, _KeepsDataAtTruncate, _ReadsShort])
def test_an_actor_that_lies_is_found(tmp_path: Path, actor: type[Actor]) -> None:
    with pytest.raises(FaultFoundError, match="last operations on it"):
        _judge(tmp_path, actor).run(1000)


def test_swap_out_on_demand_may_be_required(tmp_path: Path) -> None:
    _judge(tmp_path / "free", _Deaf).run(300)
    with pytest.raises(FaultFoundError, match="swap-out on demand is not supported"):
        _judge(tmp_path / "strict", _Deaf, must_swap_out=True).run(300)


def test_a_seed_gives_the_same_sequence(tmp_path: Path) -> None:
    histories = []
    for name in "ab":
        stage = _judge(tmp_path / name, Actor)
        stage.run(400)
        histories.append([list(inode.history) for inode in stage.stage.model.inodes])
    assert histories[0] == histories[1]


def test_a_member_that_dies_of_sigbus_is_a_fault(tmp_path: Path) -> None:
    with Crew(str(tmp_path / "judged"), 1) as crew:
        crew[0].call("open", 1, "file", os.O_RDWR | os.O_CREAT)
        crew[0].call("map", 2, 1, 0, PAGE)
        with pytest.raises(CallFailedError, match="SIGBUS"):
            crew[0].call("peek", 2, 0, 1)


def test_an_errno_is_a_fault(tmp_path: Path) -> None:
    with Crew(str(tmp_path / "judged"), 1) as crew, pytest.raises(CallFailedError, match="No such"):
        crew[0].call("open", 1, "file", os.O_RDWR)


def test_a_crash_loses_descriptors_and_keeps_files(tmp_path: Path) -> None:
    with Crew(str(tmp_path / "judged"), 1) as crew:
        crew[0].call("open", 1, "file", os.O_RDWR | os.O_CREAT)
        crew[0].crash()
        assert crew[0].call("list_directory") == ["file"]
        with pytest.raises(CallFailedError, match="exit status 1"):
            crew[0].call("pread", 1, 0, 1)


def test_the_program_replays(tmp_path: Path) -> None:
    command = python("-m", "tests.judge", "--dir", tmp_path, "--seed", 5, "--ops", 200)
    outputs = [
        subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=True, timeout=60
        ).stdout
        for _ in range(2)
    ]
    assert all(output.startswith("seed 5: 200 operations") for output in outputs)


@pytest.mark.parametrize(
    ("expected", "actual", "told"),
    [
        (bytes(8192), bytes(5000) + b"x" + bytes(3191), "page 11, offset 904"),
        (bytes(8192), bytes(100), "100 bytes instead of 8192"),
        (b"x" * 8192, b"x" * 4096 + bytes(4096), "the actual bytes are zeros"),
    ],
)
def test_a_difference_is_described(expected: bytes, actual: bytes, told: str) -> None:
    assert told in describe_difference(expected, actual, 10 * PAGE, ())


def test_dice_are_drawn_from_edges(tmp_path: Path) -> None:
    dice = _judge(tmp_path, Actor).stage.dice
    points = [dice.point(10 * PAGE) for _ in range(1000)]
    near = [min(point % PAGE, -point % PAGE) <= 3 for point in points]
    assert sum(near) > 300
    assert all(0 <= point <= 10 * PAGE for point in points)
    spans = [dice.span(size) for size in itertools.chain(range(1, 50), [PAGE, 1 << 20])]
    assert all(length >= 1 for _, length in spans)
