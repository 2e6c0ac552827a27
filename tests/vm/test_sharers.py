"""An address space has its areas once, whoever shares it."""

from dataclasses import replace

import pytest

from anonfs.units import Ino
from anonfs.vm import ProcessMaps
from tests.vm.fakes import World, maps, seen


@pytest.fixture
def world() -> World:
    return World()


def _sharing(pid: int, parent: int) -> ProcessMaps:
    return replace(maps(pid, seen(1, 0, 4), parent=parent), shares_with=parent)


@pytest.mark.parametrize("complete", [True, False])
def test_the_areas_are_those_of_the_first(world: World, complete: bool) -> None:
    look = [maps(10, seen(1, 0, 4)), _sharing(9, 10), _sharing(8, 9)]
    assert world.look(*look, complete=complete) == ["open 10 1 0-4"]
    assert world.look(*look, complete=complete) == []
    assert world.spaces.pids == {10}
    assert all(world.spaces.has_areas(pid) for pid in (8, 9, 10))
    assert world.spaces.with_sharers([10]) == {8, 9, 10}
    assert world.spaces.with_sharers([9]) == {9}


def test_who_is_left_has_them_before_they_are_closed(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)), _sharing(11, 10), _sharing(12, 11))
    log = world.look(maps(11, seen(1, 0, 4)), _sharing(12, 11))
    assert log == ["open 11 1 0-4", "close 10 1 0-4"]
    assert world.inodes[Ino(1)].dentry.deleted == 0
    assert world.look(maps(11), maps(12, seen(1, 0, 4), parent=11), complete=False) == [
        "dup 11 12 1 0-4",
        "close 11 1 0-4",
    ]
    assert not world.spaces.has_areas(11)
    assert world.spaces.with_sharers([11]) == {11}


def test_a_child_of_a_sharer_has_them_from_the_owner(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)), _sharing(11, 10))
    child = maps(12, seen(1, 0, 4), parent=11)
    assert world.look(child, complete=False) == ["dup 10 12 1 0-4"]


def test_a_forked_child_of_a_sharer_waits_for_its_pid(world: World) -> None:
    process = maps(10, seen(1, 0, 4))
    (area,) = process.areas
    parent = world.spaces.attach(process, [(area.start, area.end)], since=world.spaces.moment)
    assert parent is not None
    world.look(process, _sharing(11, 10))
    child = world.spaces.fork(parent)
    look = maps(12, seen(1, 0, 4), parent=11)
    world.recorder.take_log()
    assert world.look(process, _sharing(11, 10), look) == []
    world.spaces.resolve(child, look)
    assert world.look(process, _sharing(11, 10), look) == []
    assert world.spaces.pids == {10, 12}


def test_who_has_called_exec_shares_nothing(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)), _sharing(11, 10))
    assert world.look(maps(11, parent=10), complete=False) == []
    assert not world.spaces.has_areas(11)
    assert world.look(maps(11, seen(2, 8, 9), parent=10), complete=False) == ["open 11 2 8-9"]
    assert world.spaces.owners == {(10, 50), (11, 50)}


def test_areas_that_were_told_of_a_sharer_are_closed(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)), maps(11, seen(1, 0, 4), parent=10))
    assert world.look(_sharing(11, 10), complete=False) == ["close 11 1 0-4"]
