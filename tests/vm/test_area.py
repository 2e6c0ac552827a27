import pytest

from anonfs.errors import InvariantError
from anonfs.units import PAGE_SIZE, Ino
from tests.vm.fakes import BASE, FakeInode, area_of


def test_an_area_maps_addresses_to_bytes_of_its_inode() -> None:
    area = area_of(FakeInode(Ino(1)), 4, 8, offset=1)
    assert area.offset_at(BASE + 6 * PAGE_SIZE + 5) == 3 * PAGE_SIZE + 5
    assert area.offset_at(area.origin) == 0


def test_the_origin_survives_a_partial_unmap() -> None:
    area = area_of(FakeInode(Ino(1)), 4, 8, offset=1)
    origin = area.origin
    area.place(area.start + PAGE_SIZE, area.end, area.offset + PAGE_SIZE, "r--s")
    assert area.origin == origin
    area.check_invariants()


def test_areas_are_equal_to_themselves_alone() -> None:
    inode = FakeInode(Ino(1))
    left, right = area_of(inode, 0, 1), area_of(inode, 0, 1)
    assert left != right
    assert len({left, right}) == 2


def test_sharing_is_in_the_permissions() -> None:
    area = area_of(FakeInode(Ino(1)), 0, 1)
    assert area.shared
    area.place(area.start, area.end, area.offset, "rw-p")
    assert not area.shared


@pytest.mark.parametrize(
    ("start", "end", "offset", "perms"),
    [
        (PAGE_SIZE, PAGE_SIZE, 0, "rw-s"),
        (2 * PAGE_SIZE, PAGE_SIZE, 0, "rw-s"),
        (1, PAGE_SIZE, 0, "rw-s"),
        (0, PAGE_SIZE, 7, "rw-s"),
        (0, PAGE_SIZE, -PAGE_SIZE, "rw-s"),
        (0, PAGE_SIZE, 0, "rw-"),
        (0, PAGE_SIZE, 0, "rw-x"),
    ],
)
def test_check_invariants(start: int, end: int, offset: int, perms: str) -> None:
    area = area_of(FakeInode(Ino(1)), 0, 1)
    area.check_invariants()
    area.place(start, end, offset, perms)
    with pytest.raises(InvariantError):
        area.check_invariants()
