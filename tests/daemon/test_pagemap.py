"""Loaded PTEs, of this process and of others, both ways that there are to read them."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from anonfs.inspection import Counts
from anonfs.units import PAGE_SIZE
from anonfsd import pagemap
from anonfsd.pagemap import loaded_ptes
from tests.posix.children import Child, eventually, hear, say
from tests.posix.memory import Mapping
from tests.support.mounts import Mounted

_PAGES = 64


@pytest.fixture(params=["scan", "read"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways, whatever this kernel has."""
    if request.param == "read":

        def no_such_call(*_: object) -> int:
            raise OSError(25, "ENOTTY")

        monkeypatch.setattr(pagemap, "scan", no_such_call)
    return str(request.param)


def anonymous(pages: int) -> Mapping:
    return Mapping(-1, pages * PAGE_SIZE, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)


@pytest.mark.usefixtures("way")
def test_pages_count_from_their_first_touch(tmp_path: Path) -> None:
    del tmp_path
    mapping = anonymous(_PAGES)
    area = [(os.getpid(), mapping.address, mapping.address + _PAGES * PAGE_SIZE)]
    assert loaded_ptes(area) == 0
    for count, page in enumerate((0, 1, 2, 40, 63), 1):
        mapping.write(page * PAGE_SIZE, b"x")
        assert loaded_ptes(area) == count
    assert loaded_ptes(area * 2) == 10
    mapping.unmap()
    assert loaded_ptes(area) == 0


@pytest.mark.usefixtures("way")
def test_who_is_gone_counts_nothing() -> None:
    assert loaded_ptes([(1 << 22, 0, PAGE_SIZE)]) == 0


def test_more_regions_than_one_call_returns() -> None:
    pages = 3 * pagemap._REGIONS
    mapping = anonymous(pages)
    for page in range(0, pages, 2):
        mapping.write(page * PAGE_SIZE, b"x")
    start, end = mapping.address, mapping.address + pages * PAGE_SIZE
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        every_entry = pagemap._read(file.fileno(), start, end)
    # The kernel may load neighbours of what is touched.
    assert every_entry >= pages // 2
    assert loaded_ptes([(os.getpid(), start, end)]) == every_entry
    mapping.unmap()


def _touch_when_told(path: Path) -> None:
    mapping = Mapping(os.open(path, os.O_RDWR), PAGE_SIZE)
    say("mapped")
    while hear() != "end":
        mapping.read(0, 1)
        say("touched")


def test_the_count_follows_children_as_they_touch_a_page_and_exit(
    mount_factory: Callable[..., Mounted],
) -> None:
    """The seed: a page's count is the number of loaded PTEs that refer to it, plus one."""
    path = mount_factory().path / "f"
    path.write_bytes(b"x" * PAGE_SIZE)

    def count() -> int:
        return Counts.parse(os.getxattr(path, "user.anonfs.count").decode()).loaded_ptes

    mapping = Mapping(os.open(path, os.O_RDWR), PAGE_SIZE)
    assert count() == 0
    mapping.read(0, 1)
    assert count() == 1
    with Child(_touch_when_told, path) as first, Child(_touch_when_told, path) as second:
        assert (first.said(), second.said()) == ("mapped", "mapped")
        assert count() == 1
        for expected, child in enumerate((first, second), 2):
            child.tell("touch")
            assert child.said() == "touched"
            assert count() == expected
        os.setxattr(path, "user.anonfs.swapout", b"all")
        assert count() == 0
        for expected, child in enumerate((first, second), 1):
            child.tell("touch")
            assert child.said() == "touched"
            assert count() == expected
        mapping.read(0, 1)
        assert count() == 3
        first.kill()
        first.wait()
        assert count() == 2
        second.tell("end")
    eventually(lambda: count() == 1, "the second child is gone")
