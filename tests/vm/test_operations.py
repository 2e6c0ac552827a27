import pytest

from anonfs.errors import InvariantError
from anonfs.units import Ino
from anonfs.vm import SharedOperations, ShareRing, VmOperations
from tests.vm.fakes import FakeDentry, FakeInode, area_of


@pytest.fixture
def inode() -> FakeInode:
    return FakeInode(Ino(7))


@pytest.fixture
def operations() -> VmOperations:
    return SharedOperations()


def test_each_area_has_one_reference(inode: FakeInode, operations: VmOperations) -> None:
    parent, child = area_of(inode, 0, 4), area_of(inode, 0, 4, pid=11)
    operations.open(parent)
    operations.dup(parent, child)
    assert list(ShareRing(inode)) == [parent, child]
    assert inode.dentry.count == 2
    operations.close(parent)
    assert list(ShareRing(inode)) == [child]
    assert inode.dentry.deleted == 0
    operations.close(child)
    assert inode.dentry.deleted == 1


def test_the_delete_finds_an_empty_ring(operations: VmOperations) -> None:
    class Dentry(FakeDentry):
        def put(self) -> None:
            super().put()
            assert mapped.share_ring.empty

    mapped = FakeInode(Ino(7), dentry=Dentry())
    area = area_of(mapped, 0, 4)
    operations.open(area)
    operations.close(area)
    assert mapped.dentry.deleted == 1


def test_an_area_opens_once_and_closes_once(inode: FakeInode, operations: VmOperations) -> None:
    area = area_of(inode, 0, 4)
    with pytest.raises(InvariantError):
        operations.close(area)
    operations.open(area)
    with pytest.raises(InvariantError):
        operations.open(area)
    assert inode.dentry.count == 1


def test_dup_stays_on_the_inode(inode: FakeInode, operations: VmOperations) -> None:
    parent, stranger = area_of(inode, 0, 4), area_of(FakeInode(Ino(8)), 0, 4, pid=11)
    operations.open(parent)
    with pytest.raises(InvariantError):
        operations.dup(parent, stranger)
