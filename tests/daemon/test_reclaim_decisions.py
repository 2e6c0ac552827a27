"""Reclaim without threads and without a kernel: what it decides, on a real engine."""

import stat
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from anonfs.mm import AnonInodeInfo, Budget, Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import Ino
from anonfs.vfs import FileSystem, NewInode
from anonfsd._engine_lock import EngineLock
from anonfsd._reclaim import Reclaim

_FRAMES = 2048


class _Stage:
    def __init__(self, image: Image) -> None:
        self.memory = Memory(image, SwapArea(MemoryStore(64)))
        root = NewInode(stat.S_IFDIR | 0o755, 0, 0)
        filesystem = FileSystem(image, self.memory, root, overcommit=False)
        self.lock = EngineLock()
        self.budget = Budget(_FRAMES, self.memory.frames, self.memory.loaded)
        nobody: Any = None  # No thread is started, so nobody is asked.
        self.reclaim = Reclaim(filesystem, self.lock, self.budget, *[nobody] * 5)

    def is_stuck(self) -> bool:
        return self.reclaim.is_stuck

    def is_behind(self) -> bool:
        return self.reclaim.is_behind


@pytest.fixture
def stage() -> Iterator[_Stage]:
    with closing(Image(_FRAMES)) as image:
        yield _Stage(image)


@pytest.fixture
def info(stage: _Stage) -> AnonInodeInfo:
    return stage.memory.create(Ino(2))


def test_nobody_waits_for_what_cannot_be_unloaded(stage: _Stage, info: AnonInodeInfo) -> None:
    """All that is loaded is next to what READs ask for that are held back."""
    reclaim, loaded = stage.reclaim, stage.memory.loaded
    with stage.lock:
        loaded.load(info, 0, 2 * _FRAMES)
        loaded.hold(info, 0, 2 * _FRAMES, 1)
        assert stage.budget.is_exceeded
        assert reclaim._next_victim() is None
        assert stage.is_stuck()
        loaded.hold(info, 0, 512, -1)
        assert reclaim._next_victim() is info
        assert not stage.is_stuck()


def test_reclaim_begins_whoever_notices_first(stage: _Stage, info: AnonInodeInfo) -> None:
    """The thread that unloads may be waiting for WRITEs, which wait for frames."""
    with stage.lock:
        memory, reclaim = stage.memory, stage.reclaim
        memory.write(info, 0, b"x" * (600 << 12))
        memory.loaded.load(info, 0, _FRAMES)
        assert stage.budget.is_short
        eviction = reclaim._next_eviction()
        assert eviction is not None
        eviction.abandon()


def test_nothing_goes_to_swap_while_free_frames_can_be_given_up(
    stage: _Stage, info: AnonInodeInfo
) -> None:
    with stage.lock:
        memory, reclaim = stage.memory, stage.reclaim
        memory.write(info, 0, b"x" * (1500 << 12))
        memory.freeing.clear(info, 500)
        memory.loaded.load(info, 0, 600)
        assert stage.budget.spare > 0
        assert not stage.budget.is_short
        assert reclaim._next_eviction() is None
        assert reclaim._next_victim() is None
        assert stage.budget.spare == 0
        assert reclaim._next_eviction() is None
        memory.loaded.load(info, 0, 1500)
        eviction = reclaim._next_eviction()
        assert eviction is not None
        eviction.abandon()


def test_what_is_locked_is_neither_asked_for_nor_waited_for(
    stage: _Stage, info: AnonInodeInfo
) -> None:
    with stage.lock:
        memory, reclaim = stage.memory, stage.reclaim
        memory.write(info, 0, b"x" * (500 << 12))
        memory.lock(info)
        memory.loaded.load(info, 0, 500)
        other = memory.create(Ino(3))
        memory.loaded.load(other, 0, _FRAMES)
        assert stage.budget.is_exceeded
        assert not stage.is_behind()
        assert reclaim._frames_to_swap() <= 0
        assert reclaim._next_victim() is other
        memory.unlock(info)
        assert stage.is_behind()
        assert reclaim._frames_to_swap() > 0
