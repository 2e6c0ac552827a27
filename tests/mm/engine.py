"""An engine without a mount, checked at the end of each use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from anonfs.mm import AnonInodeInfo, Image, Memory, sync
from anonfs.swap import MemoryStore, SwapArea, SwapStore
from anonfs.units import PAGE_SIZE, Ino

__all__ = ["FaultyStore", "engine", "inode", "page", "read", "states"]


class FaultyStore(MemoryStore):
    """A store that can be made to fail, in all or at some slots, and to damage what it holds."""

    def __init__(self, pages: int) -> None:
        super().__init__(pages)
        self.fail_reads = False
        self.fail_writes = False
        self.bad_reads: set[int] = set()
        self.bad_writes: set[int] = set()
        self.writes: list[tuple[int, int]] = []

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if self.fail_reads or self.bad_reads & _slots(offset, len(buffer)):
            raise OSError(5, "read")
        super().read_into(offset, buffer)

    def write_from(self, offset: int, buffers: Sequence[memoryview]) -> None:
        size = sum(map(len, buffers))
        self.writes.append((offset // PAGE_SIZE + 1, size // PAGE_SIZE))
        if self.fail_writes or self.bad_writes & _slots(offset, size):
            raise OSError(5, "write")
        super().write_from(offset, buffers)

    def damage(self, slot: int) -> None:
        """Change one bit of what is in ``slot``."""
        self._bytes[(slot - 1) * PAGE_SIZE + 1234] ^= 16


def _slots(offset: int, size: int) -> set[int]:
    first = offset // PAGE_SIZE + 1
    return set(range(first, first + size // PAGE_SIZE))


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
