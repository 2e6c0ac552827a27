import itertools
from collections.abc import Callable

import pytest

from anonfs.errors import InvariantError
from anonfs.events import VmEvent
from anonfs.units import PAGE_SIZE, Ino
from anonfs.vm import (
    EventLog,
    EventReader,
    SharedOperations,
    ShareRing,
    Sight,
    ToldOperations,
    VmOperations,
    _operations,
)
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


def test_the_last_attach_and_detach(
    inode: FakeInode, operations: VmOperations, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(1)
    monkeypatch.setattr(_operations, "time", lambda: float(next(clock)))
    parent, child = area_of(inode, 0, 4), area_of(inode, 0, 4, pid=11)
    operations.open(parent)
    history = [inode.attaches]
    operations.dup(parent, child)
    history.append(inode.attaches)
    operations.close(child)
    history.append(inode.attaches)
    assert history == [(parent.pid, 1, 0), (parent.pid, 2, 0), (11, 2, 3)]


def test_the_delete_finds_an_empty_ring(operations: VmOperations) -> None:
    class Dentry(FakeDentry):
        def put(self, times: int = 1) -> None:
            super().put(times)
            assert mapped.share_ring.empty

    mapped = FakeInode(Ino(7), dentry=Dentry())
    area = area_of(mapped, 0, 4)
    operations.open(area)
    operations.close(area)
    assert mapped.dentry.deleted == 1


def test_the_dentry_hears_of_each_close_before_it_is_put(operations: VmOperations) -> None:
    class Dentry(FakeDentry):
        def unmapped(self, group: int) -> None:
            super().unmapped(group)
            assert self.count == left.pop()

    left = [1, 2]
    mapped = FakeInode(Ino(7), dentry=Dentry())
    areas = area_of(mapped, 0, 4), area_of(mapped, 0, 4, pid=11)
    for group, area in enumerate(areas):
        area.group = group
        operations.open(area)
    for area in areas:
        operations.close(area)
    assert mapped.dentry.unmapped_by == [0, 1]


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


def told(operations: ToldOperations, act: Callable[[], object]) -> list[VmEvent]:
    """What a reader is told of what ``act`` does."""
    reader = EventReader(lambda _: Sight.ALL, lambda: None, 1000, 1 << 20)
    operations.log.open(reader)
    act()
    operations.log.close(reader)
    return [VmEvent.parse(line) for line in reader.take(1 << 20).decode().splitlines()]


@pytest.fixture
def telling() -> ToldOperations:
    return ToldOperations(EventLog(lambda inode: f"file-{inode.ino}", now=lambda: 5.0))


def test_operations_are_told_with_their_processes(
    inode: FakeInode, telling: ToldOperations
) -> None:
    parent, child = area_of(inode, 0, 4, offset=2), area_of(inode, 0, 4, pid=11, offset=2)

    def act() -> None:
        telling.open(parent)
        telling.dup(parent, child)
        assert inode.dentry.count == 2
        telling.close(parent)
        assert list(ShareRing(inode)) == [child]

    place = parent.start, parent.end, 2 * PAGE_SIZE, 4
    assert told(telling, act) == [
        VmEvent(5.0, 7, "file-7", "open", 10, None, *place),
        VmEvent(5.0, 7, "file-7", "dup", 11, 10, *place),
        VmEvent(5.0, 7, "file-7", "close", 10, None, *place),
    ]


def test_pages_are_told_where_anybody_listens(inode: FakeInode, telling: ToldOperations) -> None:
    def act() -> None:
        assert telling.log.wanted
        telling.fault(inode, 3, 2)
        telling.swapout(inode, 4, 1)

    assert told(telling, act) == [
        VmEvent(5.0, 7, "file-7", "fault", offset=3 * PAGE_SIZE, pages=2),
        VmEvent(5.0, 7, "file-7", "swapout", offset=4 * PAGE_SIZE, pages=1),
    ]
    assert not telling.log.wanted
    telling.fault(inode, 3, 2)
    assert told(telling, lambda: None) == []


def test_a_close_is_told_before_the_delete_it_causes(telling: ToldOperations) -> None:
    class Dentry(FakeDentry):
        def put(self, times: int = 1) -> None:
            super().put(times)
            telling.delete(mapped)

    mapped = FakeInode(Ino(7), dentry=Dentry())
    area = area_of(mapped, 0, 4)
    telling.open(area)
    events = told(telling, lambda: telling.close(area))
    assert [event.event for event in events] == ["close", "delete"]
    assert events[-1] == VmEvent(5.0, 7, "file-7", "delete")


def test_a_told_dup_stays_on_the_inode(inode: FakeInode, telling: ToldOperations) -> None:
    parent, stranger = area_of(inode, 0, 4), area_of(FakeInode(Ino(8)), 0, 4, pid=11)
    telling.open(parent)
    with pytest.raises(InvariantError):
        telling.dup(parent, stranger)
