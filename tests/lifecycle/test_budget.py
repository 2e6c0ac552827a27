"""The budget bounds all that a mount costs in memory: frames and page cache, whatever clients do.

Measured from outside, with the numbers of the kernel (`tests.lifecycle.costs`). A budget cannot be
changed while the mount lives, so there is no test of one that becomes smaller than what is in use.
"""

import mmap
import os
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from anonfs.client import connect
from anonfs.inspection import PageCounts
from anonfs.meminfo import MemInfo
from anonfs.units import PAGE_SIZE
from tests.conftest import skip_or_fail
from tests.lifecycle.costs import Cost, has_cachestat, resident_frames
from tests.posix.children import Child, eventually, hear, say
from tests.posix.descriptors import descriptor
from tests.posix.memory import Mapping
from tests.support.mounts import Mounted

_MIB = 1 << 20
_BUDGET = 32 * _MIB
_CLIENTS = 2
_FILE = 64 * _MIB
_PEAK, _USUAL = 1.25, 1.10


def _need_cachestat(place: Path) -> None:
    path = place / "probe"
    path.touch()
    if not has_cachestat(path):
        skip_or_fail("cachestat(2) is missing, which came with Linux 6.5")
    path.unlink()


def _content(seed: int, offset: int, size: int) -> bytes:
    """What a file holds there; no page is like another, nor like one of another seed."""
    first = (seed << 40) + offset // 8 + 1
    return np.arange(first, first + size // 8, dtype=np.int64).tobytes()


def _use(path: Path, seed: int) -> None:
    """Dirty a file, then read it in order and at random; each when told, and says how often."""
    dice = random.Random(seed)
    with descriptor(path) as fd:
        os.ftruncate(fd, _FILE)
        mapping = Mapping(fd, _FILE)

        def wrong(offset: int, size: int) -> bool:
            return mapping.read(offset, size) != _content(seed, offset, size)

        for offset in range(0, _FILE, _MIB):
            mapping.write(offset, _content(seed, offset, _MIB))
        say("dirtied")
        hear()
        say(sum(wrong(offset, _MIB) for offset in range(0, _FILE, _MIB)))
        hear()
        mapping.advise(mmap.MADV_RANDOM)
        pages = dice.sample(range(_FILE // PAGE_SIZE), 3000)
        say(sum(wrong(page * PAGE_SIZE, PAGE_SIZE) for page in pages))
        hear()


@contextmanager
def _clients(place: Path) -> Iterator[list[Child]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(Child(_use, place / str(seed), seed)) for seed in range(_CLIENTS)
        ]


def _meminfo(mounted: Mounted) -> MemInfo:
    return connect(mounted.path).meminfo()


def _settled(mounted: Mounted) -> MemInfo:
    """The numbers once reclaim has caught up and rests."""
    seen = [_meminfo(mounted)]

    def rests() -> bool:
        seen.append(_meminfo(mounted))
        return seen[-1].cost <= seen[-1].budget and seen[-1] == seen[-2]

    eventually(rests, "reclaim rests")
    return seen[-1]


def _counts(path: Path) -> PageCounts:
    return PageCounts.parse(os.getxattr(path, "user.anonfs.pages").decode())


def test_the_budget_is_the_whole_cost(mount_factory: Callable[..., Mounted]) -> None:
    mounted = mount_factory(budget=f"{_BUDGET}", swap_size="256M", arguments=())
    _need_cachestat(mounted.path)
    paths = [mounted.path / str(seed) for seed in range(_CLIENTS)]
    with ExitStack() as stack:
        cost = Cost(mounted.process.pid, [stack.enter_context(descriptor(path)) for path in paths])
        clients = stack.enter_context(_clients(mounted.path))
        for expected in ("dirtied", 0, 0):
            before = len(cost.samples)
            for client in clients:
                while not client.has_said(0.002):
                    cost.sample()
                assert client.said() == expected
                client.tell()
            phase = cost.samples[before:]
            assert len(phase) > 10, "too few samples to say anything"
            assert max(phase) <= _PEAK * _BUDGET, f"{expected}: {max(phase) / _BUDGET:.2f}"
            assert statistics.median(phase) <= _USUAL * _BUDGET, expected
        _check_agrees(mounted, cost, paths)


def _check_agrees(mounted: Mounted, cost: Cost, paths: list[Path]) -> None:
    """What the daemon says of itself is what the kernel says of it."""
    info = _settled(mounted)
    assert info.frames == cost.frames() - PAGE_SIZE, "all but the frame of zeros"
    assert resident_frames(mounted.process.pid) <= cost.frames()
    assert cost.cached() <= info.loaded
    assert info.cost == info.frames + info.loaded <= info.budget
    counts = [_counts(path) for path in paths]
    for found in counts:
        assert found.total == found.none + found.in_core + found.on_swap == _FILE // PAGE_SIZE
        assert found.none == 0
    # A page is in a frame or on swap, never in both.
    assert info.frames_used == sum(found.in_core for found in counts) * PAGE_SIZE
    assert info.swap_total - info.swap_free == sum(found.on_swap for found in counts) * PAGE_SIZE
    assert info.swap_cached <= info.loaded


@pytest.fixture
def small(mount_factory: Callable[..., Mounted]) -> Mounted:
    return mount_factory(budget="8M", swap_size="64M", arguments=())


def test_what_is_missed_again_and_again_is_left_alone(small: Mounted) -> None:
    """A hot set, found missing soon after it went, outlives a scan of what is used but once."""
    hot, scanned = (_filled(small, *of) for of in (("hot", 64), ("scanned", 8192)))
    client = connect(small.path)
    missed = {"hot": 0, "scanned": 0}
    touched = {"hot": 0, "scanned": 0}

    # In no order, or it would be a stream, and read ahead.
    order = random.Random(0).sample(range(8192), 8192)

    def touch(name: str, mapping: Mapping, pages: Sequence[int]) -> None:
        before = client.meminfo().counters.fault_requests
        for page in pages:
            assert mapping.read(page * PAGE_SIZE, 8) == b"%08d" % page
        missed[name] += client.meminfo().counters.fault_requests - before
        touched[name] += len(pages)

    for start in range(0, 8192, 1024):
        touch("scanned", scanned, order[start : start + 1024])
        touch("hot", hot, range(64))
    for start in range(0, 4096, 512):
        touch("scanned", scanned, order[start : start + 512])
        touch("hot", hot, range(64))
    assert client.meminfo().counters.reclaim_refaulted > 0
    rate = {name: missed[name] / touched[name] for name in missed}
    assert rate["scanned"] > 0.8, rate
    assert rate["hot"] < rate["scanned"] / 2, rate


def _filled(mounted: Mounted, name: str, pages: int) -> Mapping:
    """A file with a number in each page, none of it loaded; a READ of it is of one page."""
    path = mounted.path / name
    with descriptor(path) as fd:
        os.pwrite(fd, b"".join((b"%08d" % page).ljust(PAGE_SIZE, b".") for page in range(pages)), 0)
        os.setxattr(fd, "user.anonfs.swapout", b"all")
        mapping = Mapping(fd, pages * PAGE_SIZE)
    mapping.advise(mmap.MADV_RANDOM)
    return mapping
