import errno
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest
import trio
import trio.testing
from anonfsd._pager import Pager

from anonfs.errors import AnonfsError
from anonfs.mm import Memory
from anonfs.units import PAGE_SIZE
from tests.mm.engine import FaultyStore, engine, inode, page, read, states


class GatedStore(FaultyStore):
    """A store whose I/O waits until the gate is opened."""

    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def _wait(self) -> None:
        self.entered.release()
        assert self.gate.wait(10)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._wait()
        super().read_into(offset, buffer)

    def write_from(self, offset: int, buffers: Sequence[memoryview]) -> None:
        self._wait()
        super().write_from(offset, buffers)


@pytest.fixture
def store() -> GatedStore:
    return GatedStore(64)


@pytest.fixture
def memory(store: GatedStore) -> Iterator[Memory]:
    with engine(frames=8, store=store) as memory:
        yield memory
        store.gate.set()


def run(script: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(20):
            await script()

    trio.run(bounded)


async def entered(store: GatedStore) -> None:
    """Wait until a thread is inside the store."""
    assert await trio.to_thread.run_sync(lambda: store.entered.acquire(timeout=10))


def test_what_is_in_core_is_read_and_written_without_a_wait(memory: Memory) -> None:
    info, pager = inode(memory), Pager(memory)

    async def script() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()  # the first wait would end it
            await pager.write(info, 0, page("a"))
            assert bytes(await pager.read(info, 0, PAGE_SIZE)) == page("a")
        assert not scope.cancelled_caught

    run(script)


def test_more_than_the_frames_hold_goes_through_swap(memory: Memory, store: GatedStore) -> None:
    info, pager = inode(memory), Pager(memory)
    store.gate.set()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(pager.write, info, number * PAGE_SIZE, page(f"{number:04}"))
        for number in range(40):
            found = await pager.read(info, number * PAGE_SIZE, PAGE_SIZE)
            assert bytes(found) == page(f"{number:04}")

    run(script)
    assert info.allocated == 40


def test_other_requests_are_served_while_one_waits_for_swap(
    memory: Memory, store: GatedStore
) -> None:
    info, other, pager = inode(memory, 1), inode(memory, 2), Pager(memory)

    async def script() -> None:
        await pager.write(info, 0, page("a"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pager.swap_out, info, 0, 0)
            await entered(store)
            await pager.write(other, 0, page("b"))
            assert bytes(await pager.read(info, 0, PAGE_SIZE)) == page("a")
            store.gate.set()
        assert states(info, 1) == "s"

    run(script)


def test_a_page_written_while_it_is_read_from_swap_for_a_partial_write(
    memory: Memory, store: GatedStore
) -> None:
    info, pager = inode(memory), Pager(memory)

    async def script() -> None:
        store.gate.set()
        await pager.write(info, 0, page("a"))
        await pager.swap_out(info, 0, 0)
        store.gate.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pager.write, info, 1, b"xx")
            await entered(store)
            await entered(store)
            await pager.write(info, 0, page("b"))
            store.gate.set()

    run(script)
    assert read(memory, info, 0, 4) == b"bxxb"


def test_a_cut_through_a_page_on_swap_needs_no_frame(memory: Memory, store: GatedStore) -> None:
    info, pager = inode(memory), Pager(memory)
    store.gate.set()

    async def script() -> None:
        await pager.write(info, 0, page("a"))
        await pager.swap_out(info, 0, 0)
        await pager.write(info, PAGE_SIZE, page("b") * 8)
        assert memory.frames.free == 0
        memory.truncate(info, 10, await pager.cut(info, 10))

    run(script)
    assert read(memory, info, 0, PAGE_SIZE) == page("a")[:10] + bytes(PAGE_SIZE - 10)


def test_a_cancelled_request_gives_back_what_it_held(memory: Memory, store: GatedStore) -> None:
    info, pager = inode(memory), Pager(memory)

    async def script() -> None:
        store.gate.set()
        await pager.write(info, 0, page("a"))
        await pager.swap_out(info, 0, 0)
        with trio.CancelScope() as scope:
            scope.cancel()
            await pager.read(info, 0, 1)
        assert scope.cancelled_caught

    run(script)
    memory.clear(info, 0)
    assert memory.swap.used == 0


def test_errors_of_the_store_are_eio(
    memory: Memory, store: GatedStore, caplog: pytest.LogCaptureFixture
) -> None:
    info, pager = inode(memory), Pager(memory)
    store.gate.set()

    async def script() -> None:
        await pager.write(info, 0, page("a"))
        store.fail_writes = True
        with pytest.raises(AnonfsError) as caught:
            await pager.swap_out(info, 0, 0)
        assert caught.value.errno == errno.EIO

    run(script)
    assert "swap I/O failed" in caplog.text
    assert states(info, 1) == "c"


def test_full_is_enospc_for_a_write_and_nothing_for_the_background(memory: Memory) -> None:
    info = inode(memory)
    memory.swap.allocate(memory.swap.free)
    pager = Pager(memory)
    pager._low, pager._high = 4, 8

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pager.keep_frames_free)
            await pager.write(info, 0, page("a") * 8)
            with pytest.raises(AnonfsError) as caught:
                await pager.write(info, 9 * PAGE_SIZE, page("b"))
            assert caught.value.errno == errno.ENOSPC
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    run(script)
    memory.swap.release(memory.swap.in_use())


def test_the_background_keeps_frames_free(memory: Memory, store: GatedStore) -> None:
    info, pager = inode(memory), Pager(memory)
    pager._low, pager._high = 2, 4
    store.gate.set()

    async def script() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pager.keep_frames_free)
            await pager.write(info, 0, page("a") * 8)
            await entered(store)
            while memory.frames.free < 4:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    run(script)
