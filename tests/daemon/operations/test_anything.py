"""Any request after any other."""

import os
import random
import stat
from typing import Any

import pytest

from anonfs.units import MAX_FILE_SIZE
from anonfsd._operations import Operations
from tests.daemon.operations.mount import Mount
from tests.daemon.operations.requests import CTX, MOST, NOWHERE, entry_attributes, setattr_fields

_INOS = [0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 9, NOWHERE]
_NAMES = [b"file", b"dir", b"link", b"a", b"b", b"..", b"", b"n" * 256, b"x/y"]
_SIZES = [0, 1, 4095, 4096, 4097, 20_000, 1 << 30, MAX_FILE_SIZE, MOST - 1]


def _anything(dice: random.Random, ops: Operations) -> tuple[str, list[object]]:
    """A handler and arguments of the right type."""
    ino, other = dice.choice(_INOS), dice.choice(_INOS)
    name, new = dice.choice(_NAMES), dice.choice(_NAMES)
    size, fh = dice.choice(_SIZES), dice.choice([*ops.files._open, *ops.directories._open, NOWHERE])
    fields = setattr_fields(size=dice.random() < 0.6, mode=True, mtime=dice.random() < 0.5)
    attributes = entry_attributes(size=size, mode=0o644, mtime_ns=7)
    calls: list[tuple[str, list[object]]] = [
        ("lookup", [ino, name, CTX]),
        ("forget", [[(ino, dice.randrange(4))]]),
        ("create", [ino, name, 0o644, os.O_RDWR, CTX]),
        ("mknod", [ino, name, dice.choice([stat.S_IFREG, stat.S_IFIFO, 0o150000]), 0, CTX]),
        ("mkdir", [ino, name, 0o755, CTX]),
        ("symlink", [ino, name, b"t" * dice.choice([1, 600, 5000]), CTX]),
        ("link", [ino, other, name, CTX]),
        ("unlink", [ino, name, CTX]),
        ("rmdir", [ino, name, CTX]),
        ("rename", [ino, name, other, new, dice.choice([0, 1, 2, 3]), CTX]),
        ("setattr", [ino, attributes, fields, None, CTX]),
        ("open", [ino, dice.choice([os.O_RDWR, os.O_RDWR | os.O_TRUNC]), CTX]),
        ("READ", [ino, size, dice.choice([0, 1, 4096, 1 << 20])]),
        ("WRITE", [ino, size, bytes([dice.randrange(256)]) * dice.choice([1, 5000, 60_000])]),
        ("release", [fh]),
        ("opendir", [ino, CTX]),
        ("releasedir", [fh]),
        ("setxattr", [ino, b"user." + name, b"v" * dice.choice([0, 600, 70_000]), CTX]),
        ("removexattr", [ino, b"user." + name, CTX]),
    ]
    return dice.choice(calls)


def _ask(mount: Mount, name: str, arguments: list[Any]) -> object:
    if name == "READ":
        return mount.paged.read(*arguments)
    if name == "WRITE":
        return mount.paged.write(*arguments)
    return mount.call(name, *arguments)


@pytest.mark.parametrize("seed", range(2))
def test_anything_in_any_order(mount: Mount, seed: int) -> None:
    dice = random.Random(seed)
    answers: dict[str, set[object]] = {}
    for turn in range(3000):
        name, arguments = _anything(dice, mount.ops)
        found = _ask(mount, name, arguments)
        answers.setdefault(name, set()).add(found if isinstance(found, str) else "done")
        assert found != "EIO", (turn, name, arguments)
        if turn % 500 == 0:
            mount.check()
    assert [name for name, seen in answers.items() if "done" not in seen] == []
