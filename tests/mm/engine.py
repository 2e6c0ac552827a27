"""An engine without a mount, checked at the end of each use."""

from collections.abc import Iterator
from contextlib import contextmanager

from anonfs.mm import AnonInodeInfo, Image, Memory, sync
from anonfs.swap import MemoryStore, SwapArea, SwapStore
from anonfs.units import PAGE_SIZE, Ino

__all__ = ["FaultyStore", "engine", "inode", "page", "read", "states"]


class FaultyStore(MemoryStore):
    """A store of which reads or writes can be made to fail."""

    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        self.fail_reads = False
        self.fail_writes = False

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if self.fail_reads:
            raise OSError(5, "read")
        super().read_into(offset, buffer)

    def write_from(self, offset: int, buffer: memoryview) -> None:
        if self.fail_writes:
            raise OSError(5, "write")
        super().write_from(offset, buffer)


@contextmanager
def engine(frames: int = 16, slots: int = 64, store: SwapStore | None = None) -> Iterator[Memory]:
    """A memory of ``frames`` and ``slots``; at the end all it holds can be freed."""
    image = Image(frames)
    swap = SwapArea(store or MemoryStore(slots))
    memory = Memory(image, swap)
    yield memory
    memory.check_invariants()
    for info in list(memory.infos):
        memory.delete(info)
    memory.check_invariants()
    assert (memory.frames.used, swap.used, memory.leaves.live) == (0, 0, 0)
    image.close()


def inode(memory: Memory, ino: int = 1) -> AnonInodeInfo:
    """A page table."""
    return memory.create(Ino(ino))


def page(text: str) -> bytes:
    """A page that repeats ``text``."""
    return (text.encode() * PAGE_SIZE)[:PAGE_SIZE]


def read(memory: Memory, info: AnonInodeInfo, offset: int, size: int) -> bytes:
    """Bytes as a READ would get them."""
    return bytes(sync.read(memory, info, offset, size))


def states(info: AnonInodeInfo, pages: int) -> str:
    """The page map in letters: n, c, s."""
    letters = {"none": "n", "in_core": "c", "on_swap": "s"}
    return "".join(
        letters[state.label] * (last - first + 1) for first, last, state in info.runs(pages)
    )
