"""The population: all memory of the arena is allocated up front, by steps.

It takes seconds for gigabytes, so each step is a piece of `Work` for a thread, and between begin
and finish of a step others may use the arena: populating changes no bytes. It goes over the arena
once. Where memory is asked back meanwhile it ends, and never populates what was trimmed.
"""

from anonfs.mm._free_frames import FreeFrames
from anonfs.mm._memfd import MemoryFile
from anonfs.units import PAGE_SHIFT

__all__ = ["Population", "PopulationStep"]

_STEP = (32 << 20) >> PAGE_SHIFT


class Population:
    """Populates ``file``, of whose frames ``free`` keeps those that nobody uses."""

    __slots__ = ("_file", "_free", "_next", "_stop", "under_way")

    def __init__(self, file: MemoryFile, free: FreeFrames) -> None:
        self._file = file
        self._free = free
        self._next = 0
        self._stop = file.size >> PAGE_SHIFT
        self.under_way = False

    def step(self) -> "PopulationStep | None":
        """The next step, one at a time, or None where all is done."""
        if self._next >= self._stop or self.under_way:
            return None
        first, self._next = self._next, min(self._next + _STEP, self._stop)
        self.under_way = True
        return PopulationStep(self, self._file, first, self._next)

    def end(self) -> None:
        """There is no further step."""
        self._stop = 0

    def note(self, first: int, stop: int) -> None:
        """The step that was under way populated frames from ``first`` to before ``stop``."""
        self.under_way = False
        self._free.note_memory(first, stop)


class PopulationStep:
    """A part of a population. See `Work`; run raises OSError where memory runs out."""

    __slots__ = ("_file", "_first", "_population", "_stop")

    def __init__(self, population: Population, file: MemoryFile, first: int, stop: int) -> None:
        self._population = population
        self._file = file
        self._first = first
        self._stop = stop

    def run(self) -> None:
        """Have the kernel allocate the memory."""
        length = (self._stop - self._first) << PAGE_SHIFT
        self._file.populate(self._first << PAGE_SHIFT, length)

    def finish(self) -> None:
        """Those that are still free have memory."""
        self._population.note(self._first, self._stop)

    def abandon(self) -> None:
        """Some of them may have memory: so much may not be counted as resident."""
        self._population.note(self._first, self._first)
        self._population.end()
