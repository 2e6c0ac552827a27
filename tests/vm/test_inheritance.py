"""Private inodes: a fork leaves their areas out, and what the child maps of the copy is its dup."""

import pytest

from anonfs.errors import InvariantError
from anonfs.units import Ino
from anonfs.vm import MappedArea, SharedOperations
from tests.vm.fakes import FakeInode, World, area_of, maps, seen


@pytest.fixture
def world() -> World:
    """Inode 1 is shared, 2 private, and 3 the copy of 2, made for a child."""
    world = World()
    world.inodes[Ino(2)].is_private = world.inodes[Ino(3)].is_private = 1
    world.inodes[Ino(3)].parent = 2
    return world


def test_a_new_child_dups_both_kinds(world: World) -> None:
    world.look(maps(10, seen(2, 0, 4), seen(1, 8, 9)))
    log = world.look(maps(11, seen(3, 0, 4), seen(1, 8, 9), parent=10), complete=False)
    assert log == ["dup 10 11 3 0-4", "dup 10 11 1 8-9"]
    assert [area.pid for area in world.ring(2)] == [10]
    assert world.inodes[Ino(3)].attaches[0] == 10
    assert world.look(maps(11, seen(3, 0, 4), seen(1, 8, 9), parent=10), complete=False) == []


def test_a_child_that_is_known_maps_its_copy_later(world: World) -> None:
    world.look(maps(10, seen(2, 0, 4), seen(1, 8, 9)))
    assert world.look(maps(11, seen(1, 8, 9), parent=10), complete=False) == ["dup 10 11 1 8-9"]
    # By then the parent has unmapped its own; that is told after.
    log = world.look(maps(10, seen(1, 8, 9)), maps(11, seen(3, 0, 4), seen(1, 8, 9), parent=10))
    assert log == ["dup 10 11 3 0-4", "close 10 2 0-4"]


def test_both_may_be_seen_for_the_first_time(world: World) -> None:
    log = world.look(maps(10, seen(2, 0, 4)), maps(11, seen(3, 0, 4), parent=10))
    assert log == ["open 10 2 0-4", "dup 10 11 3 0-4"]


@pytest.mark.parametrize("moved", [seen(3, 4, 8), seen(3, 0, 4, offset=1), seen(1, 0, 4)])
def test_what_is_elsewhere_or_no_copy_is_opened(world: World, moved: MappedArea) -> None:
    world.look(maps(10, seen(2, 0, 4)))
    log = world.look(maps(11, moved, parent=10), complete=False)
    assert [line.split()[0] for line in log] == ["open"]


def test_a_copy_that_is_shared_is_opened(world: World) -> None:
    world.inodes[Ino(3)].is_private = 0
    world.look(maps(10, seen(2, 0, 4)))
    assert world.look(maps(11, seen(3, 0, 4), parent=10)) == ["open 11 3 0-4", "close 10 2 0-4"]


def test_a_copy_over_what_has_gone_unseen_is_opened(world: World) -> None:
    world.look(maps(10, seen(2, 0, 4)), maps(11, seen(1, 1, 9), parent=10))
    log = world.look(maps(10, seen(2, 0, 4)), maps(11, seen(3, 0, 4), parent=10))
    assert log == ["open 11 3 0-4", "close 11 1 1-9"]


def test_the_kernels_fork_leaves_private_areas_out(world: World) -> None:
    process = maps(10, seen(2, 0, 4), seen(1, 8, 9))
    spans = [(area.start, area.end) for area in process.areas]
    parent = world.spaces.attach(process, spans, since=world.spaces.moment)
    assert parent is not None
    child = world.spaces.fork(parent)
    world.check()
    assert world.recorder.take_log()[2:] == ["dup 10 None 1 8-9"]
    world.spaces.resolve(child, maps(11, parent=10))
    log = world.look(process, maps(11, seen(3, 0, 4), seen(1, 8, 9), parent=10))
    assert log == ["dup 10 11 3 0-4"]


def test_dup_requires_the_inode_or_its_private_copy() -> None:
    original, copy = FakeInode(Ino(2), is_private=1), FakeInode(Ino(3), parent=2)
    operations = SharedOperations()
    parent_area = area_of(original, 0, 4)
    operations.open(parent_area)
    with pytest.raises(InvariantError):
        operations.dup(parent_area, area_of(copy, 0, 4, pid=11))
    copy.is_private = 1
    operations.dup(parent_area, area_of(copy, 0, 4, pid=11))
    assert copy.dentry.count == 1
