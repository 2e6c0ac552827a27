"""Where a memory cgroup is made, on trees of directories that look like cgroups."""

from pathlib import Path

import pytest

from memory_cgroup import Hierarchy, MemoryCgroup
from places import BenchError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of a hierarchy with a.slice/b.scope in it."""
    (tmp_path / "a.slice" / "b.scope").mkdir(parents=True)
    return tmp_path


def version_1(root: Path) -> str:
    return f"cgroup {root}/cpu cgroup rw,cpu 0 0\ncgroup {root} cgroup rw,memory 0 0\n"


def version_2(root: Path) -> str:
    return f"proc /proc proc rw 0 0\ncgroup2 {root} cgroup2 rw,nosuid 0 0\n"


def hand_down(directory: Path, controllers: str) -> None:
    (directory / "cgroup.subtree_control").write_text(controllers)


def test_version_1_is_below_our_own(root: Path) -> None:
    found = Hierarchy.found(version_1(root), "4:cpu:/c\n3:memory:/a.slice/b.scope\n0::/d\n")
    assert found == Hierarchy(1, root / "a.slice" / "b.scope")


@pytest.mark.parametrize("own", ["/../elsewhere", "/not/shown/here", "/"])
def test_version_1_is_below_the_root_where_our_own_is_out_of_sight(root: Path, own: str) -> None:
    assert Hierarchy.found(version_1(root), f"3:memory:{own}\n") == Hierarchy(1, root)


def test_version_2_is_below_the_nearest_that_hands_memory_down(root: Path) -> None:
    hand_down(root, "cpu memory pids\n")
    hand_down(root / "a.slice", "memory\n")
    hand_down(root / "a.slice" / "b.scope", "\n")
    found = Hierarchy.found(version_2(root), "0::/a.slice/b.scope\n")
    assert found == Hierarchy(2, root / "a.slice")


def test_version_1_is_taken_where_version_2_has_no_controller(root: Path, tmp_path: Path) -> None:
    bare = tmp_path / "unified"
    bare.mkdir()
    hand_down(bare, "\n")
    found = Hierarchy.found(version_2(bare) + version_1(root), "3:memory:/\n0::/\n")
    assert found == Hierarchy(1, root)


@pytest.mark.parametrize("controllers", ["\n", "cpu\n"])
def test_nowhere(root: Path, controllers: str) -> None:
    hand_down(root, controllers)
    with pytest.raises(BenchError, match="controller is missing"):
        Hierarchy.found(version_2(root), "0::/a.slice/b.scope\n")


@pytest.mark.parametrize(("version", "name"), [(1, "memory.limit_in_bytes"), (2, "memory.max")])
def test_a_limit_is_in_the_file_of_the_version(tmp_path: Path, version: int, name: str) -> None:
    MemoryCgroup(version, tmp_path).limit(1 << 20)
    assert (tmp_path / name).read_text() == "1048576"


def test_shared_pages_are_read_from_the_statistics(tmp_path: Path) -> None:
    (tmp_path / "memory.stat").write_text("cache 8192\nshmem 4096\ntotal_shmem 9999\n")
    assert MemoryCgroup(1, tmp_path).shared_bytes() == 4096
