"""stress-ng with its own checks on, in the mount, several stressors at a time.

Its madvise stressor is left out: as root it has the kernel declare pages of the machine broken.
"""

from collections.abc import Callable

import pytest

from tests.support.mounts import Mounted
from tests.support.swapper import swapping

_RUN_SECONDS = 6
_BOUND_SECONDS = 120.0

_GROUPS = {
    "mappings written with msync": [
        *("--mmap", "1", "--mmap-file", "--mmap-bytes", "12M", "--mmap-ops", "200"),
        *("--msync", "1", "--msync-bytes", "8M", "--msync-ops", "3000"),
        *("--msyncmany", "1", "--msyncmany-ops", "400"),
        *("--fault", "1", "--fault-ops", "3000"),
        *("--stackmmap", "1", "--stackmmap-ops", "300"),
    ],
    "mappings larger than the budget": [
        *("--mmap", "2", "--mmap-file", "--mmap-async", "--mmap-mprotect"),
        *("--mmap-bytes", "24M", "--mmap-ops", "20"),
    ],
    "bytes": [
        *("--hdd", "1", "--hdd-bytes", "16M", "--hdd-ops", "8000"),
        *("--iomix", "1", "--iomix-bytes", "16M", "--iomix-ops", "8000"),
        *("--revio", "1", "--revio-bytes", "8M", "--revio-ops", "8000"),
        *("--seek", "1", "--seek-size", "8M", "--seek-ops", "8000"),
        *("--sync-file", "1", "--sync-file-bytes", "8M", "--sync-file-ops", "20"),
        *("--sendfile", "1", "--sendfile-ops", "20000"),
        *("--readahead", "1", "--readahead-bytes", "16M", "--readahead-ops", "8000"),
    ],
    "names and locks": [
        *("--rename", "1", "--rename-ops", "2000"),
        *("--filename", "1", "--filename-ops", "300"),
        *("--dirdeep", "1", "--dirdeep-ops", "1000"),
        *("--flock", "2", "--flock-ops", "100000"),
        *("--locka", "1", "--locka-ops", "100000"),
        *("--lockf", "1", "--lockf-ops", "50000"),
    ],
}


@pytest.mark.parametrize("group", _GROUPS)
def test_stress_ng_finds_no_fault(
    mount_factory: Callable[..., Mounted], need_program: Callable[[str], str], group: str
) -> None:
    program = need_program("stress-ng")
    mounted = mount_factory(budget="16M", swap_size="1G")
    common = ["--verify", "--temp-path", str(mounted.path), "--timeout", f"{_RUN_SECONDS}"]
    with swapping(mounted):
        output = mounted.run([program, *common, *_GROUPS[group]], _BOUND_SECONDS).check()
    assert "successful run completed" in output
