import time

import pytest

from anonfs.errors import InvariantError
from anonfs.units import PAGE_SIZE, Ino
from anonfs.vm import MappedArea, ProcessMaps
from tests.vm.fakes import BASE, World, maps, seen


@pytest.fixture
def world() -> World:
    return World()


def test_mmap_opens_and_munmap_closes(world: World) -> None:
    assert world.look(maps(10, seen(1, 0, 4), seen(2, 8, 9))) == ["open 10 1 0-4", "open 10 2 8-9"]
    assert world.look(maps(10, seen(1, 0, 4), seen(2, 8, 9))) == []
    assert world.look(maps(10, seen(2, 8, 9))) == ["close 10 1 0-4"]
    assert world.inodes[Ino(1)].dentry.deleted == 1


def test_a_process_that_is_not_seen_is_gone_if_the_look_was_complete(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)), maps(11, seen(1, 0, 4)))
    assert world.look(maps(10, seen(1, 0, 4)), complete=False) == []
    assert world.spaces.pids == {10, 11}
    assert world.look(maps(10, seen(1, 0, 4))) == ["close 11 1 0-4"]
    assert world.spaces.pids == {10}


def test_a_process_seen_without_areas_has_none(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    assert world.look(maps(10), complete=False) == ["close 10 1 0-4"]
    assert world.look(maps(10), complete=False) == []
    assert world.spaces.pids == frozenset()


def test_a_process_that_does_not_exist_has_no_areas(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    assert world.look(ProcessMaps.nobody(10), complete=False) == ["close 10 1 0-4"]
    assert world.look(ProcessMaps.nobody(99), complete=False) == []


def test_an_unknown_inode_is_left_out_until_it_is_known(world: World) -> None:
    inode = world.inodes.pop(Ino(2))
    assert world.look(maps(10, seen(2, 0, 1))) == []
    assert world.look(maps(10, seen(1, 4, 5), seen(2, 0, 1))) == ["open 10 1 4-5"]
    world.inodes[Ino(2)] = inode
    assert world.look(maps(10, seen(1, 4, 5), seen(2, 0, 1))) == ["open 10 2 0-1"]


# Forks


def test_a_fork_dups_each_area(world: World) -> None:
    areas = (seen(1, 0, 4), seen(2, 8, 9))
    world.look(maps(10, *areas))
    assert world.look(maps(10, *areas), maps(11, *areas, parent=10)) == [
        "dup 10 11 1 0-4",
        "dup 10 11 2 8-9",
    ]


def test_a_fork_is_a_dup_in_a_look_at_the_child_alone(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    assert world.look(maps(11, seen(1, 0, 4), parent=10), complete=False) == ["dup 10 11 1 0-4"]


def test_a_grandchild_dups_from_its_own_parent_whatever_the_pids(world: World) -> None:
    log = world.look(
        maps(5, seen(1, 0, 4), parent=7),
        maps(7, seen(1, 0, 4), parent=20),
        maps(20, seen(1, 0, 4)),
    )
    assert log == ["open 20 1 0-4", "dup 20 7 1 0-4", "dup 7 5 1 0-4"]


def test_a_child_that_unmapped_a_part_dups_what_is_left(world: World) -> None:
    child = maps(11, seen(1, 0, 1), seen(1, 3, 4, 3), parent=10)
    log = world.look(maps(10, seen(1, 0, 4)), child)
    assert log == ["open 10 1 0-4", "dup 10 11 1 0-1", "dup 10 11 1 3-4"]


def test_a_parent_that_unmapped_a_part_since_is_still_the_parent(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    log = world.look(maps(10, seen(1, 0, 2)), maps(11, seen(1, 0, 4), parent=10))
    assert log == ["dup 10 11 1 0-4"]


def test_a_parent_that_unmapped_all_since_hands_the_inode_on(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    log = world.look(maps(11, seen(1, 0, 4), parent=10))
    assert log == ["dup 10 11 1 0-4", "close 10 1 0-4"]
    assert world.inodes[Ino(1)].dentry.deleted == 0


def test_a_parent_that_mapped_more_before_the_fork_is_followed_first(world: World) -> None:
    both = (seen(1, 0, 4), seen(2, 8, 9))
    world.look(maps(10, seen(1, 0, 4)))
    assert world.look(maps(10, *both), maps(11, *both, parent=10)) == [
        "dup 10 11 1 0-4",
        "open 10 2 8-9",
        "dup 10 11 2 8-9",
    ]


@pytest.mark.parametrize(
    "area",
    [
        seen(2, 0, 4),
        seen(1, 0, 5),
        seen(1, 0, 4, offset=1),
        seen(1, 0, 4, perms="rw-p"),
        seen(1, 4, 8),
    ],
)
def test_what_the_parent_does_not_have_is_opened(world: World, area: MappedArea) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    log = world.look(maps(11, area, parent=10), complete=False)
    assert [line.split()[0] for line in log] == ["open"]


def test_a_known_child_that_maps_where_its_parent_does_opens(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)), maps(11, seen(1, 0, 4), parent=10))
    both = (seen(1, 0, 4), seen(2, 8, 9))
    assert world.look(maps(10, *both), maps(11, *both, parent=10)) == [
        "open 10 2 8-9",
        "open 11 2 8-9",
    ]


def test_a_parent_younger_than_its_child_is_none(world: World) -> None:
    log = world.look(maps(10, seen(1, 0, 4), start_time=60), maps(11, seen(1, 0, 4), parent=10))
    assert log == ["open 10 1 0-4", "open 11 1 0-4"]


def test_parents_in_a_circle_end(world: World) -> None:
    a, b = maps(10, seen(1, 0, 4), parent=11), maps(11, seen(1, 0, 4), parent=10)
    assert sorted(line.split()[0] for line in world.look(a, b)) == ["dup", "open"]


# The pieces of an area


def test_an_unmapped_end_leaves_the_same_area(world: World) -> None:
    world.look(maps(10, seen(1, 0, 8)))
    [area] = world.ring(1)
    assert world.look(maps(10, seen(1, 0, 6))) == []
    assert world.look(maps(10, seen(1, 2, 6, 2))) == []
    assert world.ring(1) == [area]
    assert (area.start, area.end, area.offset) == (
        BASE + 2 * PAGE_SIZE,
        BASE + 6 * PAGE_SIZE,
        2 * PAGE_SIZE,
    )


def test_an_unmapped_middle_splits(world: World) -> None:
    world.look(maps(10, seen(1, 0, 8)))
    [area] = world.ring(1)
    assert world.look(maps(10, seen(1, 0, 2), seen(1, 6, 8, 6))) == ["open 10 1 6-8"]
    assert world.ring(1)[0] is area
    assert area.end == BASE + 2 * PAGE_SIZE


def test_many_holes_split_many_times(world: World) -> None:
    world.look(maps(10, seen(1, 0, 8)))
    pieces = [seen(1, page, page + 1, page) for page in (1, 3, 5, 7)]
    assert world.look(maps(10, *pieces)) == ["open 10 1 3-4", "open 10 1 5-6", "open 10 1 7-8"]


def test_mprotect_of_a_part_splits(world: World) -> None:
    world.look(maps(10, seen(1, 0, 8)))
    log = world.look(
        maps(10, seen(1, 0, 2), seen(1, 2, 6, 2, perms="r--s"), seen(1, 6, 8, 6)),
    )
    assert log == ["open 10 1 2-6", "open 10 1 6-8"]
    assert [area.perms for area in world.ring(1)] == ["rw-s", "r--s", "rw-s"]


def test_mprotect_of_all_changes_the_permissions(world: World) -> None:
    world.look(maps(10, seen(1, 0, 8)))
    assert world.look(maps(10, seen(1, 0, 8, perms="r--s"))) == []
    assert world.ring(1)[0].perms == "r--s"


def test_a_boundary_that_mprotect_moved_moves(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4), seen(1, 4, 8, 4, perms="r--s")))
    assert world.look(maps(10, seen(1, 0, 6), seen(1, 6, 8, 6, perms="r--s"))) == []
    assert world.look(maps(10, seen(1, 0, 2), seen(1, 2, 8, 2, perms="r--s"))) == []


def test_neighbours_are_never_merged(world: World) -> None:
    assert len(world.look(maps(10, seen(1, 0, 4), seen(1, 4, 8, 4)))) == 2
    assert len(world.ring(1)) == 2


def test_an_area_that_swallowed_its_neighbour_grew(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4), seen(1, 4, 8, 4, perms="r--s")))
    assert world.look(maps(10, seen(1, 0, 8))) == ["close 10 1 4-8"]


def test_growth_in_place_is_the_same_area(world: World) -> None:
    world.look(maps(10, seen(1, 4, 6, 4)))
    assert world.look(maps(10, seen(1, 2, 9, 2))) == []


@pytest.mark.parametrize("neighbour", [seen(1, 2, 4, 2), seen(1, 8, 9, 8)])
def test_a_neighbour_is_not_a_piece(world: World, neighbour: MappedArea) -> None:
    world.look(maps(10, seen(1, 4, 8, 4)))
    assert [line.split()[0] for line in world.look(maps(10, neighbour))] == ["open", "close"]


def test_a_moved_area_opens_before_it_closes(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    assert world.look(maps(10, seen(1, 20, 24))) == ["open 10 1 20-24", "close 10 1 0-4"]
    assert world.inodes[Ino(1)].dentry.deleted == 0


@pytest.mark.parametrize(
    "area", [seen(2, 0, 4), seen(1, 0, 4, offset=9), seen(1, 0, 4, perms="rw-p")]
)
def test_another_mapping_at_the_address_is_another_area(world: World, area: MappedArea) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    log = world.look(maps(10, area))
    assert [line.split()[0] for line in log] == ["open", "close"]


def test_pieces_of_two_areas_stay_with_their_area(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4), seen(2, 4, 8)))
    first, second = *world.ring(1), *world.ring(2)
    assert world.look(maps(10, seen(1, 1, 2, 1), seen(1, 3, 4, 3), seen(2, 7, 8, 3))) == [
        "open 10 1 3-4"
    ]
    assert first.start == BASE + PAGE_SIZE
    assert second.start == BASE + 7 * PAGE_SIZE


def test_a_split_needs_no_look_up_of_the_inode(world: World) -> None:
    world.look(maps(10, seen(1, 0, 8)))
    world.spaces._inode_of = lambda _: None
    assert world.look(maps(10, seen(1, 0, 2), seen(1, 6, 8, 6))) == ["open 10 1 6-8"]


# Processes


def test_a_reused_pid_is_another_process(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)), maps(11, seen(1, 0, 4)))
    log = world.look(maps(10, seen(1, 0, 4), start_time=99), maps(11, seen(1, 0, 4)))
    assert log == ["close 10 1 0-4", "open 10 1 0-4"]


def test_a_process_changes_its_user_and_its_parent(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    world.look(maps(10, seen(1, 0, 4), uid=1000, parent=2))
    assert world.ring(1)[0].uid == 1000


def test_the_order_does_not_depend_on_the_order_of_the_look(world: World) -> None:
    look = [maps(pid, seen(1, 4, 6), seen(1, 0, 2), parent=pid // 2) for pid in range(10, 60)]
    other = World()
    assert world.look(*look) == other.look(*reversed(look))
    assert world.look() == other.look()


def test_drop_closes_every_area_of_the_inode(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4), seen(2, 8, 9)), maps(11, seen(1, 0, 4), parent=10))
    world.recorder.take_log()
    world.spaces.drop(world.inodes[Ino(1)])
    world.check()
    assert world.recorder.take_log() == ["close 10 1 0-4", "close 11 1 0-4"]
    assert world.spaces.pids == {10}
    world.spaces.drop(world.inodes[Ino(1)])
    assert world.look() == ["close 10 2 8-9"]


def test_check_invariants_finds_an_area_that_left_its_ring(world: World) -> None:
    world.look(maps(10, seen(1, 0, 4)))
    world.ring(1)[0].unlink()
    with pytest.raises(InvariantError):
        world.spaces.check_invariants()


def test_ten_thousand_areas_take_linear_time(world: World) -> None:
    count = 10_000
    areas = [seen(1, 2 * page, 2 * page + 1) for page in range(count)]
    began = time.process_time()
    world.look(maps(10, *areas))
    world.look(maps(10, *areas), maps(11, *areas, parent=10))
    world.look(maps(10, *areas[::2]), maps(11, seen(1, 0, 2 * count), parent=10))
    world.look(maps(10, *areas))
    world.look()
    # Linear takes well under a second, quadratic minutes.
    assert time.process_time() - began < 10


def test_a_look_from_before_an_attachment_does_not_undo_it(world: World) -> None:
    since = world.spaces.moment  # a look begins, and comes to process 10 before it maps anything
    process = maps(10, seen(1, 0, 4))
    world.look(process, complete=False)
    (area,) = process.areas
    space = world.spaces.attach(process, [(area.start, area.end)], since=world.spaces.moment)
    assert space is not None
    assert world.spaces.is_exact(10)
    world.recorder.take_log()
    world.spaces.update([], complete=True, since=since)
    assert world.recorder.take_log() == []
    assert world.spaces.is_exact(10)
    world.check()
    assert world.look() == ["close 10 1 0-4"]


def test_who_has_changed_since_it_was_looked_at_is_not_attached(world: World) -> None:
    process = maps(10, seen(1, 0, 4))
    (area,) = process.areas
    reported = [(area.start, area.end)]
    space = world.spaces.attach(process, reported, since=world.spaces.moment)
    assert space is not None
    since = world.spaces.moment
    world.spaces.unmap(space, area.start, area.start + PAGE_SIZE)
    assert world.spaces.attach(process, reported, since=since) is None
    world.check()
