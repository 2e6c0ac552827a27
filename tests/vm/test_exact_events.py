"""The kernel's own events beside looks: whoever comes first tells, and nobody tells twice."""

import pytest

from anonfs.units import PAGE_SIZE
from anonfs.vm import AddressSpace
from tests.vm.fakes import BASE, World, maps, seen


@pytest.fixture
def world() -> World:
    return World()


def _attached(world: World, *areas: tuple[int, int]) -> AddressSpace:
    """Process 10, which maps these pages of inode 1."""
    process = maps(10, *(seen(1, first, end, first) for first, end in areas))
    spans = [(_at(first), _at(end)) for first, end in areas]
    space = world.spaces.attach(process, spans, since=world.spaces.moment)
    assert space is not None
    world.recorder.take_log()
    return space


def _at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def _unmap(world: World, space: AddressSpace, first: int, end: int) -> None:
    world.spaces.unmap(space, _at(first), _at(end))


def test_a_look_does_not_tell_of_a_child_that_has_moved_since(world: World) -> None:
    parent = _attached(world, (0, 4))
    since = world.spaces.moment
    child = world.spaces.fork(parent)
    look = [maps(10, seen(1, 0, 4)), maps(11, seen(1, 0, 4), parent=10)]
    world.spaces.remap(child, _at(0), _at(8), 4 * PAGE_SIZE)
    _unmap(world, child, 0, 4)
    world.recorder.take_log()
    world.spaces.update(look, complete=True, since=since)
    assert world.recorder.take_log() == []
    world.spaces.resolve(child, maps(11, parent=10))
    world.check()
    assert {(area.pid, area.start) for area in world.ring(1)} == {(10, _at(0)), (11, _at(8))}


def test_a_look_tells_of_others_while_a_child_waits(world: World) -> None:
    parent = _attached(world, (0, 4))
    since = world.spaces.moment
    world.spaces.fork(parent)
    world.recorder.take_log()
    world.spaces.update([maps(12, seen(1, 0, 4))], complete=False, since=since)
    assert world.recorder.take_log() == ["open 12 1 0-4"]


def test_a_child_that_a_look_told_of_is_told_of_once_in_the_end(world: World) -> None:
    child = world.spaces.fork(_attached(world, (0, 4)))
    # It has moved, and the event of that is not read yet.
    look = [maps(10, seen(1, 0, 4)), maps(11, seen(1, 8, 12), parent=10)]
    world.spaces.update(look, complete=True)
    world.recorder.take_log()
    world.spaces.resolve(child, maps(11, parent=10))
    world.check()
    assert world.recorder.take_log() == ["close 11 1 8-12"]
    world.spaces.remap(child, _at(0), _at(8), 4 * PAGE_SIZE)
    _unmap(world, child, 0, 4)
    assert world.recorder.take_log() == ["open 11 1 8-12", "close 11 1 0-4"]
    assert world.look(*look) == []


def test_a_look_does_not_bring_back_what_was_unmapped_since(world: World) -> None:
    space = _attached(world, (0, 4))
    since = world.spaces.moment
    _unmap(world, space, 0, 4)
    world.recorder.take_log()
    world.spaces.update([maps(10, seen(1, 0, 4))], complete=True, since=since)
    assert world.recorder.take_log() == []
    assert world.look(maps(10, seen(1, 20, 24))) == ["open 10 1 20-24"]


def test_a_look_does_not_bring_back_a_child_that_ended_without_a_name(world: World) -> None:
    parent = _attached(world, (0, 4))
    since = world.spaces.moment
    world.spaces.end(world.spaces.fork(parent))
    world.recorder.take_log()
    look = [maps(10, seen(1, 0, 4)), maps(11, seen(1, 0, 4), parent=10), maps(12, seen(1, 0, 4))]
    world.spaces.update(look, complete=True, since=since)
    assert world.recorder.take_log() == ["open 12 1 0-4"]
    assert world.look(look[0], look[2]) == []


def test_a_look_at_an_earlier_process_with_its_pid_closes_nothing(world: World) -> None:
    since = world.spaces.moment
    _attached(world, (0, 4))
    earlier = maps(10, seen(1, 0, 4), start_time=40)
    world.spaces.update([earlier], complete=False, since=since)
    assert world.recorder.take_log() == []


def test_what_waits_to_be_read_is_told_before_a_look(world: World) -> None:
    """A child has got what another thread of its parent then unmapped."""
    space = _attached(world, (0, 4), (8, 12))

    def read_all() -> None:
        world.spaces.catch_up = lambda: None
        world.spaces.fork(space)
        _unmap(world, space, 8, 12)

    world.spaces.catch_up = read_all
    assert world.look(maps(10, seen(1, 0, 4))) == [
        "dup 10 None 1 0-4",
        "dup 10 None 1 8-12",
        "close 10 1 8-12",
    ]


def test_who_attaches_while_something_waits_to_be_read_is_looked_at_anew(world: World) -> None:
    space = _attached(world, (0, 4), (8, 12))
    world.spaces.catch_up = lambda: _unmap(world, space, 8, 12)
    process = maps(10, seen(1, 0, 4))
    assert world.spaces.attach(process, [(_at(0), _at(4))], since=world.spaces.moment) is None
    assert world.recorder.take_log() == ["close 10 1 8-12"]


def test_a_look_sees_a_split_before_its_event_is_read(world: World) -> None:
    space = _attached(world, (0, 4))
    assert world.look(maps(10, seen(1, 0, 1), seen(1, 2, 4, 2))) == ["open 10 1 2-4"]
    assert world.spaces.is_exact(10)
    _unmap(world, space, 1, 2)
    assert world.recorder.take_log() == []


def test_a_look_sees_a_move_before_its_event_is_read(world: World) -> None:
    space = _attached(world, (0, 4))
    assert world.look(maps(10, seen(1, 8, 12))) == ["open 10 1 8-12", "close 10 1 0-4"]
    world.spaces.remap(space, _at(0), _at(8), 4 * PAGE_SIZE)
    _unmap(world, space, 0, 4)
    assert world.recorder.take_log() == []
    assert world.spaces.is_exact(10)


def test_who_attaches_is_no_child_that_waits(world: World) -> None:
    world.spaces.fork(_attached(world, (0, 4)))
    process = maps(11, seen(1, 0, 4), parent=10)
    spans = [(_at(0), _at(4))]
    assert world.spaces.attach(process, spans, since=world.spaces.moment) is not None
    assert world.spaces.is_exact(11)
