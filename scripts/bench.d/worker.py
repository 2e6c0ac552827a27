"""A process that works on a segment: the same program whatever the segment is made of.

Started by `crew`, which talks to it in lines: it says ``ready`` when all its own memory is there,
hears ``map``, and from then on is told the names of phases and answers each with a line of JSON:
when it began and ended, what it did. Loops run inside numpy, so what is measured is the page.

Each page has its number plus one in its first word. Worker w writes into word 1 + w, in the Zipf
phase, where it has been, and finds it there when all have ended::

    page 0   1 . 7 . .  r r r …     visited by worker 1 in its access number 7
    page 1   2 5 9 . .  r r r …     by worker 0 in access 5, by worker 1 in access 9
"""

import json
import mmap
import sys
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

import numpy as np

from anonfs.units import PAGE_SIZE, pages_for
from pages import MIB, Words, expect, first_words, random_block, stamp
from zipf import zipf_pages

__all__ = ["Done", "Plan"]

_WORDS_PER_PAGE = PAGE_SIZE // 8
_WORDS_PER_MIB = MIB // 8
_PAGES_PER_MIB = MIB // PAGE_SIZE
_CHUNK = 64  # accesses in one call of numpy: its overhead is 10 ns each
_EXPONENT = 0.99
_READS = 0.7
_RESIDENT_PAGES = 4096
_PASSES = 1001  # over some time slices of the machine's scheduler
_WRAP = 1 << 64


@dataclass(frozen=True)
class Plan:
    """What all workers are told; ``size`` in bytes, whole MiB a worker."""

    rank: int
    workers: int
    size: int
    faults: int
    accesses: int


@dataclass(frozen=True)
class Done:
    """One worker's part in a phase: when (all processes have the same clock), and how much."""

    begin: float
    end: float
    amount: int


class _Worker:
    """Phases are its public methods; what they need was made before the segment is mapped."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._block = random_block(MIB)
        self._pages = pages_for(plan.size)
        self._rest = int(self._block.sum()) - int(first_words(self._block).sum())
        chosen = np.random.default_rng(plan.rank + 1).permutation(self._pages)
        self._random = chosen[: 2 * plan.faults].copy()
        self._visits = zipf_pages(self._pages, plan.accesses, _EXPONENT, plan.rank)
        self._reading = np.random.default_rng(plan.rank).random(plan.accesses) < _READS
        self._last_visit = np.full(self._pages if plan.accesses else 0, 0, np.int64)

    def map(self, fd: int) -> None:
        """Map the segment; nothing of it is touched."""
        self._area = mmap.mmap(fd, self._plan.size)
        self._words: Words = np.frombuffer(self._area, np.int64)
        self._firsts = first_words(self._words)

    def _share(self, ahead: int = 0) -> range:
        """The numbers of the MiB that are ours, or those of the worker that many ahead."""
        each = self._plan.size // MIB // self._plan.workers
        rank = (self._plan.rank + ahead) % self._plan.workers
        return range(rank * each, (rank + 1) * each)

    def write(self) -> Done:
        """All words of the pages of our share, in their order."""
        share, begin = self._share(), perf_counter()
        for number in share:
            stamp(self._block, number * _PAGES_PER_MIB)
            self._words[number * _WORDS_PER_MIB :][:_WORDS_PER_MIB] = self._block
        return Done(begin, perf_counter(), len(share) * MIB)

    def read(self) -> Done:
        """All words of the pages of another's share, in their order, each compared."""
        share, begin = self._share(ahead=1), perf_counter()
        for number in share:
            words = self._words[number * _WORDS_PER_MIB :][:_WORDS_PER_MIB]
            firsts = first_words(words)
            stamps = np.arange(1, 1 + _PAGES_PER_MIB) + number * _PAGES_PER_MIB
            total = int(words.sum()) - int(stamps.sum()) - self._rest
            expect(int((firsts == stamps).sum()), _PAGES_PER_MIB, "stamps of a MiB")
            expect(total % _WRAP, 0, "words of a MiB")
        return Done(begin, perf_counter(), len(share) * MIB)

    def random(self) -> Done:
        """A word of pages in no order."""
        return self._faults(self._random[: self._plan.faults])

    def random_advised(self) -> Done:
        """The same with other pages, and the kernel told so."""
        self._area.madvise(mmap.MADV_RANDOM)
        done = self._faults(self._random[self._plan.faults :])
        self._area.madvise(mmap.MADV_NORMAL)
        return done

    def _faults(self, pages: Words) -> Done:
        found, begin = 0, perf_counter()
        for at in range(0, pages.size, _CHUNK):
            found += int(self._firsts[pages[at : at + _CHUNK]].sum())
        end = perf_counter()
        expect(found, int(pages.sum()) + pages.size, "pages in no order")
        return Done(begin, end, pages.size)

    def zipf(self) -> Done:
        """Reads and writes of pages by Zipf's law; `check_zipf` looks at what was written."""
        own = self._words[1 + self._plan.rank :: _WORDS_PER_PAGE]
        found, begin = 0, perf_counter()
        for at in range(0, self._visits.size, _CHUNK):
            pages, reading = self._visits[at : at + _CHUNK], self._reading[at : at + _CHUNK]
            found += int(self._firsts[pages[reading]].sum())
            own[pages[~reading]] = np.arange(at, at + pages.size)[~reading]
        end = perf_counter()
        read = self._visits[self._reading]
        expect(found, int(read.sum()) + read.size, "pages by Zipf's law")
        return Done(begin, end, self._visits.size)

    def check_zipf(self) -> Done:
        """That every word that was written in `zipf` is as it was written last."""
        begin, own = perf_counter(), self._words[1 + self._plan.rank :: _WORDS_PER_PAGE]
        writes = np.flatnonzero(~self._reading)
        self._last_visit[:] = -1
        self._last_visit[self._visits[writes]] = writes  # of several to one page the last
        pages = np.flatnonzero(self._last_visit >= 0)
        right = int((own[pages] == self._last_visit[pages]).sum())
        expect(right, pages.size, "pages written by Zipf's law")
        return Done(begin, perf_counter(), pages.size)

    def resident_read(self) -> Done:
        """A word of each of a few pages, again and again: the median pass."""
        pages = self._firsts[:_RESIDENT_PAGES]
        expected = pages.size * (pages.size + 1) // 2
        seconds = []
        for _ in range(2 + _PASSES):
            begin = perf_counter()
            found = int(pages.sum())
            seconds.append(perf_counter() - begin)
            expect(found, expected, "resident pages")
        return Done(0.0, median(seconds[2:]), pages.size)

    def resident_write(self) -> Done:
        """The same, adding one to a word that nobody else uses."""
        words = self._words[_WORDS_PER_PAGE - 1 :: _WORDS_PER_PAGE][:_RESIDENT_PAGES]
        before, seconds = int(words.sum()), []
        for _ in range(2 + _PASSES):
            begin = perf_counter()
            np.add(words, 1, out=words)
            seconds.append(perf_counter() - begin)
        expect((int(words.sum()) - before) % _WRAP, words.size * len(seconds), "resident pages")
        return Done(0.0, median(seconds[2:]), words.size)


def _main() -> None:
    """Obey until standard input ends."""
    fd, plan = int(sys.argv[1]), Plan(**json.loads(sys.argv[2]))
    worker = _Worker(plan)
    _answer("ready")
    for line in sys.stdin:
        command = line.strip()
        if command == "map":
            worker.map(fd)
            _answer("mapped")
        else:
            _answer(json.dumps(asdict(getattr(worker, command)())))


def _answer(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _main()
