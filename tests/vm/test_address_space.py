from dataclasses import replace

import pytest

from anonfs.errors import InvariantError
from anonfs.units import Ino
from anonfs.vm import AddressSpace, ShareRing, VmArea
from tests.vm.fakes import FakeInode, maps, seen


@pytest.fixture
def inode() -> FakeInode:
    return FakeInode(Ino(7))


@pytest.fixture
def space() -> AddressSpace:
    return AddressSpace(maps(10, uid=1000))


def keep(space: AddressSpace, inode: FakeInode, first: int, end: int) -> VmArea:
    area = space.begin(seen(7, first, end), inode)
    ShareRing(inode).insert([area])
    space.add(area)
    return area


def test_a_new_area_is_of_the_process(space: AddressSpace, inode: FakeInode) -> None:
    area = space.begin(seen(7, 0, 2, offset=3, perms="r--p"), inode)
    assert (area.pid, area.uid, area.offset, area.perms) == (10, 1000, 3 * 4096, "r--p")
    assert area not in space
    assert area.empty


def test_areas_are_in_the_order_of_addresses(space: AddressSpace, inode: FakeInode) -> None:
    high, low = keep(space, inode, 4, 6), keep(space, inode, 0, 2)
    assert space.areas == [low, high]
    assert high in space
    space.remove(high)
    assert high not in space
    assert len(space) == 1


def test_a_process_is_its_pid_and_start_time(space: AddressSpace) -> None:
    assert space.is_same_process(maps(10, parent=9, uid=5))
    assert not space.is_same_process(maps(10, start_time=51))


def test_a_new_user_is_the_areas_user(space: AddressSpace, inode: FakeInode) -> None:
    area = keep(space, inode, 0, 2)
    space.follow(maps(10, uid=5, parent=77))
    assert (area.uid, space.parent) == (5, 77)
    space.check_invariants()


def test_a_new_group_is_the_areas_group(space: AddressSpace, inode: FakeInode) -> None:
    before = keep(space, inode, 0, 2)
    space.follow(replace(maps(10, uid=1000), group=10))
    assert [before.group, keep(space, inode, 2, 4).group] == [10, 10]
    space.check_invariants()


def test_two_areas_cannot_begin_at_one_address(space: AddressSpace, inode: FakeInode) -> None:
    area = keep(space, inode, 0, 2)
    with pytest.raises(InvariantError):
        space.add(area)
    space.remove(area)
    with pytest.raises(InvariantError):
        space.remove(area)


def test_check_invariants_finds_overlaps(space: AddressSpace, inode: FakeInode) -> None:
    keep(space, inode, 0, 3)
    space.check_invariants()
    keep(space, inode, 2, 4)
    with pytest.raises(InvariantError, match="overlap"):
        space.check_invariants()


def test_check_invariants_finds_an_area_in_no_ring(space: AddressSpace, inode: FakeInode) -> None:
    keep(space, inode, 0, 3).unlink()
    with pytest.raises(InvariantError, match="in no ring"):
        space.check_invariants()


def test_check_invariants_finds_an_area_resized_behind_its_back(
    space: AddressSpace, inode: FakeInode
) -> None:
    area = keep(space, inode, 0, 3)
    area.place(area.start + 4096, area.end, area.offset + 4096, area.perms)
    with pytest.raises(InvariantError, match="kept at"):
        space.check_invariants()
    space.replace([area])
    space.check_invariants()
