import pytest

from anonfs.errors import InvariantError
from anonfs.units import Ino
from anonfs.vfs import ListLink
from anonfs.vm import ShareRing
from tests.vm.fakes import FakeInode, area_of


@pytest.fixture
def inode() -> FakeInode:
    return FakeInode(Ino(7))


def test_a_ring_is_a_view_of_the_head(inode: FakeInode) -> None:
    area = area_of(inode, 0, 1)
    ShareRing(inode).insert([area])
    assert inode.share_ring.next is area
    assert list(ShareRing(inode)) == [area]
    ShareRing(inode).remove([area])
    assert inode.share_ring.empty
    assert len(ShareRing(inode)) == 0


def test_areas_stay_in_the_order_they_came_in(inode: FakeInode) -> None:
    ring = ShareRing(inode)
    areas = [area_of(inode, first, first + 1) for first in (4, 0, 2)]
    assert ring.insert(areas[:2]) == 2
    assert ring.insert(areas[2:]) == 1
    assert list(ring) == areas
    assert len(ring) == 3
    ring.check_invariants()


def test_the_current_area_may_be_removed_while_iterating(inode: FakeInode) -> None:
    ring = ShareRing(inode)
    for first in range(4):
        ring.insert([area_of(inode, first, first + 1)])
    for area in ring:
        if area.start % 0x2000:
            ring.remove([area])
    assert len(ring) == 2


def test_an_area_of_another_inode_is_refused(inode: FakeInode) -> None:
    stranger = area_of(FakeInode(Ino(8)), 0, 1)
    with pytest.raises(InvariantError, match="another inode"):
        ShareRing(inode).insert([stranger])
    with pytest.raises(InvariantError, match="another inode"):
        ShareRing(inode).remove([stranger])


def test_an_area_is_inserted_once_and_removed_once(inode: FakeInode) -> None:
    ring, area = ShareRing(inode), area_of(inode, 0, 1)
    with pytest.raises(InvariantError, match="in no ring"):
        ring.remove([area])
    ring.insert([area])
    with pytest.raises(InvariantError, match="already"):
        ring.insert([area])


def test_areas_of_one_process_may_not_overlap(inode: FakeInode) -> None:
    ring = ShareRing(inode)
    ring.insert([area_of(inode, 0, 4)])
    ring.insert([area_of(inode, 3, 5, pid=11)])
    ring.insert([area_of(inode, 4, 6)])
    ring.check_invariants()
    ring.insert([area_of(inode, 5, 7)])
    with pytest.raises(InvariantError, match="overlap"):
        ring.check_invariants()


def test_what_is_no_area_is_found(inode: FakeInode) -> None:
    inode.share_ring.add_tail(ListLink())
    with pytest.raises(InvariantError, match="not a vm area"):
        len(ShareRing(inode))


def test_an_area_that_links_back_elsewhere_is_found(inode: FakeInode) -> None:
    area = area_of(inode, 0, 1)
    ShareRing(inode).insert([area])
    area.inode = FakeInode(Ino(8))
    with pytest.raises(InvariantError, match="another inode"):
        ShareRing(inode).check_invariants()
