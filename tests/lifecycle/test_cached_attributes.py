"""The kernel keeps attributes of files; what changes them behind its back shows all the same."""

import mmap
import os
import random
from pathlib import Path

from anonfs.client import clone_into, connect, discard
from anonfs.client._overlay import make_overlay
from anonfs.units import PAGE_SIZE
from tests.support.mounts import Mounted

_SIZE = 5 * PAGE_SIZE + 7
_BLOCKS = PAGE_SIZE // 512


def test_what_the_daemon_changes(mounted: Mounted, tmp_path: Path) -> None:
    below = tmp_path / "front"
    below.write_bytes(random.Random(1).randbytes(_SIZE))
    fs = connect(mounted.path)
    with fs.create("over", 0) as over, fs.create("copy", 0) as copy, below.open("rb") as front:
        assert [os.fstat(file.fileno()).st_size for file in (over, copy)] == [0, 0]
        make_overlay(over.fileno(), front.fileno())
        assert over.size == _SIZE
        os.pwrite(over.fileno(), b"changed", PAGE_SIZE - 3)
        found = os.fstat(over.fileno())
        assert (found.st_size, found.st_blocks) == (_SIZE, 2 * _BLOCKS)
        clone_into(over.fileno(), copy.fileno())
        found = os.fstat(copy.fileno())
        assert (found.st_size, found.st_blocks) == (_SIZE, 2 * _BLOCKS)
        over.resize(1)
        assert os.fstat(over.fileno()).st_blocks == _BLOCKS
        discard(over)
        found = os.fstat(over.fileno())
        assert (found.st_size, found.st_blocks) == (_SIZE, 0)


def test_what_a_mapping_stores(mounted: Mounted) -> None:
    fs = connect(mounted.path)
    with fs.create("a", 3 * PAGE_SIZE) as file, mmap.mmap(file.fileno(), file.size) as area:
        before = os.fstat(file.fileno())
        assert before.st_blocks == 0
        area[PAGE_SIZE] = 1
        area.flush()
        after = os.fstat(file.fileno())
        assert after.st_blocks == _BLOCKS
        assert after.st_mtime_ns > before.st_mtime_ns
        assert after.st_ctime_ns == after.st_mtime_ns
