import errno
import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from anonfs.errors import AnonfsError
from anonfs.inspection import NEVER, Reap
from anonfs.mm import Image, Memory
from anonfs.swap import MemoryStore, SwapArea
from anonfs.units import PAGE_SIZE
from anonfs.vfs import ROOT, FileSystem, Inode, NewInode, rename
from anonfs.vm import SharedOperations, VmArea
from anonfsd._entries import attributes
from anonfsd._reaper import Reaper
from anonfsd._rings import Rings

_HEADER = 32


class Scene:
    """A file ``a`` that goes with its last area; what each look finds; what the kernel is told."""

    def __init__(self) -> None:
        self.image = Image(4)
        memory = Memory(self.image, SwapArea(MemoryStore(4)))
        self.filesystem = FileSystem(self.image, memory, NewInode(0o040755, 0, 0))
        self.inode = self.make(b"a", Reap("last-area"))
        self.looks: list[Callable[[], object]] = []
        self.told, self.device = os.pipe2(os.O_NONBLOCK)
        self.stale: list[int] = []
        rings = cast("Rings", SimpleNamespace(look=self._look))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: 0)
            self.reaper = Reaper(self.filesystem, rings, self.device, self.stale.append)

    def make(self, name: bytes, policy: Reap) -> Inode:
        inode = self.filesystem.make(ROOT, name, NewInode(0o100644, 0, 0))
        self.filesystem.reaping.set(inode, policy)
        self.filesystem.open(inode)
        return inode

    async def _look(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.looks:
            self.looks.pop(0)()

    def area(self, inode: Inode, group: int = 0) -> VmArea:
        area = VmArea(
            pid=1,
            uid=0,
            inode=inode,
            start=0,
            end=PAGE_SIZE,
            offset=0,
            perms="rw-s",
            group=group,
        )
        SharedOperations().open(area)
        return area

    def names(self) -> list[bytes]:
        root = self.filesystem.inode(ROOT).directory
        assert root is not None
        return [name for name, _ in root.snapshot()]

    def forgotten(self) -> list[bytes]:
        """The names that the kernel was told to forget."""
        found, message = [], os.read(self.told, 1 << 16)
        while message:
            length = int.from_bytes(message[:4], "little")
            found.append(message[_HEADER : length - 1])
            message = message[length:]
        return found

    def run(self, reaper: Reaper | None = None) -> None:
        """Have the reaper do all that it finds to do."""
        reaper = reaper or self.reaper

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reaper.run)
                await trio.sleep(2)
                while reaper._limiter.borrowed_tokens:  # a mocked clock waits for no thread
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.filesystem.check_invariants()
    scene.image.close()
    os.close(scene.told)
    os.close(scene.device)


def test_the_kernel_keeps_no_attributes_of_what_may_go(scene: Scene) -> None:
    """Whoever opens it by a name that the kernel still has is to see that it has none."""
    assert attributes(scene.inode).attr_timeout == 0
    assert attributes(scene.make(b"b", NEVER)).attr_timeout > 0


def test_the_last_close_takes_the_name_and_the_kernel_hears_of_it(scene: Scene) -> None:
    SharedOperations().close(scene.area(scene.inode))
    scene.run()
    assert scene.names() == []
    assert scene.forgotten() == [b"a"]
    assert scene.stale == [scene.inode.ino]
    assert scene.inode.opens == 1


def test_areas_that_come_back_before_it_looks_keep_the_file(scene: Scene) -> None:
    child: list[VmArea] = []
    scene.looks = [lambda: child.append(scene.area(scene.inode))]
    SharedOperations().close(scene.area(scene.inode))
    scene.run()
    assert scene.names() == [b"a"]
    SharedOperations().close(child.pop())
    scene.run()
    assert scene.names() == []


def test_a_file_that_is_not_open_needs_no_look(scene: Scene) -> None:
    scene.looks = [lambda: pytest.fail("it looked")]
    SharedOperations().close(scene.area(scene.inode))
    scene.filesystem.release(scene.inode)
    scene.run()
    assert scene.names() == []
    assert scene.inode.ino not in scene.filesystem.inodes


def test_who_does_not_see_everybody_waits_for_the_last_release(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    reaper = Reaper(
        scene.filesystem, cast("Rings", SimpleNamespace()), scene.device, scene.stale.append
    )
    SharedOperations().close(scene.area(scene.inode))
    scene.run(reaper)
    assert scene.names() == [b"a"]
    scene.filesystem.release(scene.inode)
    scene.run(reaper)
    assert scene.names() == []


def test_what_cannot_be_looked_at_is_looked_at_later(scene: Scene) -> None:
    def fail() -> None:
        raise AnonfsError(errno.EAGAIN)

    scene.looks = [fail]
    SharedOperations().close(scene.area(scene.inode))
    scene.run()
    assert scene.names() == []


def test_a_policy_that_was_taken_back_does_not_count(scene: Scene) -> None:
    SharedOperations().close(scene.area(scene.inode))
    scene.filesystem.reaping.set(scene.inode, NEVER)
    scene.run()
    assert scene.names() == [b"a"]


def test_what_is_unlinked_meanwhile_or_moved(scene: Scene) -> None:
    moved = scene.make(b"b", Reap("last-area"))
    for inode in (scene.inode, moved):
        SharedOperations().close(scene.area(inode))

    def change() -> None:
        scene.filesystem.unlink(ROOT, b"a")
        rename(scene.filesystem, ROOT, b"b", ROOT, b"c")

    scene.looks = [change]
    scene.run()
    assert scene.names() == []
    assert scene.forgotten() == [b"c"]


def test_a_group_is_kept_by_its_own_areas_alone(scene: Scene) -> None:
    file = scene.make(b"b", Reap("last-attach", 7))
    scene.area(file, group=1)
    first, second = scene.area(file, group=7), scene.area(file, group=7)
    SharedOperations().close(first)
    scene.run()
    assert scene.names() == [b"a", b"b"]
    SharedOperations().close(second)
    scene.run()
    assert scene.names() == [b"a"]
