import mmap
import os
from pathlib import Path

import pytest

from anonfs.units import PAGE_SIZE
from anonfsd.smaps import dirty_bytes, parts_of

DEVICE = (0, 54)
TEXT = """\
7f0000000000-7f0000010000 rw-s 00000000 00:36 12                         /mnt/a b (deleted)
Rss:                  64 kB
Pss_Dirty:            12 kB
VmFlags: rd wr sh
7f0000010000-7f0000020000 rw-s 00000000 00:37 12                         /other/00:36 12
Pss_Dirty:            64 kB
7f0000020000-7f0000030000 r--s 00001000 00:36 13                         /mnt/c
Pss_Dirty:             4 kB
"""


def test_the_parts_of_one_device() -> None:
    assert parts_of(DEVICE, TEXT) == [12, 4]
    assert parts_of((8, 1), TEXT) == []
    assert parts_of(DEVICE, "") == []


def test_a_kernel_that_does_not_tell() -> None:
    assert parts_of(DEVICE, TEXT.replace("Pss_Dirty", "Pss")) == [None, None]


def test_a_process_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(4 * PAGE_SIZE))
    device = path.stat().st_dev
    number = os.major(device), os.minor(device)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4 * PAGE_SIZE) as mapping:
        before = dirty_bytes(number, [os.getpid()])
        if before is None:
            pytest.skip("no Pss_Dirty on this kernel")
        mapping[0] = mapping[PAGE_SIZE] = 1
        after = dirty_bytes(number, [os.getpid()])
        assert after is not None
        assert after >= before


def test_processes_that_are_gone_have_none() -> None:
    assert dirty_bytes(DEVICE, [(1 << 22) + 1]) == 0
