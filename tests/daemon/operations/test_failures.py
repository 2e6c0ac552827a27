"""What nobody foresaw: every handler over parts that raise."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyfuse3
import pytest

from anonfs.errors import AnonfsError, InvariantError
from anonfs.vfs import ROOT
from anonfsd._operations import Operations
from tests.daemon.operations.fakes import Broken
from tests.daemon.operations.mount import Mount
from tests.daemon.operations.requests import CTX, entry_attributes, setattr_fields
from tests.daemon.paged import Paged

_CALLS: dict[str, Callable[[Mount], tuple[object, ...]]] = {
    "lookup": lambda _: (ROOT, b"file", CTX),
    "create": lambda _: (ROOT, b"x", 0o644, os.O_RDWR, CTX),
    "mknod": lambda _: (ROOT, b"x", stat.S_IFREG, 0, CTX),
    "mkdir": lambda _: (ROOT, b"x", 0o755, CTX),
    "symlink": lambda _: (ROOT, b"x", b"y", CTX),
    "readlink": lambda mount: (mount.inos[b"link"], CTX),
    "link": lambda mount: (mount.inos[b"file"], ROOT, b"x", CTX),
    "unlink": lambda _: (ROOT, b"file", CTX),
    "rmdir": lambda _: (ROOT, b"dir", CTX),
    "rename": lambda _: (ROOT, b"file", ROOT, b"x", 0, CTX),
    "getattr": lambda _: (ROOT, CTX),
    "setattr": lambda mount: (
        mount.inos[b"file"],
        entry_attributes(),
        setattr_fields(mode=True),
        None,
        CTX,
    ),
    "statfs": lambda _: (CTX,),
    "open": lambda mount: (mount.inos[b"file"], os.O_RDWR, CTX),
    "flush": lambda _: (1,),
    "fsync": lambda _: (1, True),
    "release": lambda _: (1,),
    "opendir": lambda _: (ROOT, CTX),
    "readdir": lambda _: (1, 0, None),
    "releasedir": lambda _: (1,),
    "fsyncdir": lambda _: (1, True),
    "getxattr": lambda _: (ROOT, b"user.a", CTX),
    "setxattr": lambda _: (ROOT, b"user.a", b"x", CTX),
    "listxattr": lambda _: (ROOT, CTX),
    "removexattr": lambda _: (ROOT, b"user.a", CTX),
}


@pytest.mark.parametrize("handler", _CALLS)
@pytest.mark.parametrize(
    ("error", "answer", "failures"),
    [
        (MemoryError(), "ENOMEM", 0),
        (ValueError("unforeseen"), "EIO", 0),
        (InvariantError("miscounted"), "EIO", 1),
        (AnonfsError(errno.ENOSPC), "ENOSPC", 0),
        (OSError(errno.EMFILE, "too many files of the daemon's own"), "EIO", 0),
    ],
    ids=["MemoryError", "ValueError", "InvariantError", "AnonfsError", "OSError"],
)
def test_unforeseen_errors(
    failing_mount: Mount, handler: str, error: Exception, answer: str, failures: int
) -> None:
    arguments = _CALLS[handler](failing_mount)
    ops = failing_mount.ops
    ops.filesystem = ops.files = ops.directories = ops.sizing = Broken(error)
    assert failing_mount.call(handler, *arguments) == answer
    assert failing_mount.failures == failures
    failing_mount.check()


def test_every_handler_is_tried() -> None:
    base = set(vars(pyfuse3.Operations))
    handlers = {name for name in vars(Operations) if name in base and not name.startswith("_")}
    settings = {"supports_dot_lookup", "enable_writeback_cache", "enable_acl"}
    assert handlers - settings - {"forget"} == set(_CALLS)


@pytest.mark.parametrize("error", [MemoryError(), ValueError(), InvariantError("miscounted")])
def test_forget_answers_nobody(failing_mount: Mount, error: Exception) -> None:
    failing_mount.ops.filesystem = Broken(error)
    assert failing_mount.call("forget", [(ROOT, 1)]) is None
    assert failing_mount.failures == isinstance(error, InvariantError)


@pytest.mark.parametrize(
    ("error", "answer", "failures"),
    [
        (MemoryError(), "ENOMEM", 0),
        (ValueError("unforeseen"), "EIO", 0),
        (InvariantError("miscounted"), "EIO", 1),
    ],
    ids=["MemoryError", "ValueError", "InvariantError"],
)
def test_unforeseen_errors_of_faults(error: Exception, answer: str, failures: int) -> None:
    with closing(Paged()) as paged:
        ino = paged.file(pages=1).ino
        paging: Any = paged.paging
        paging._memory = Broken(error)
        assert paged.read(ino, 0, 10) == answer
        paged.failing.failed = False
        assert paged.write(ino, 0, b"x") == answer
        assert paged.failing.failures == 2 * failures
        paged.failing.failed = True
        assert paged.read(ino, 0, 10) == paged.write(ino, 0, b"x") == "EIO"
        paged.check()


@pytest.mark.parametrize("where", ["allocate", "drop"])
def test_no_memory_half_way(
    overcommitted_mount: Mount, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A write that fails for want of memory leaves the file as it was."""
    mount = overcommitted_mount
    fh = mount.open()
    mount.write(fh, 0, b"kept")
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise MemoryError

        patched.setattr(mount.memory.leaves, where, fail)
        answer = mount.write(fh, 1 << 30, b"far")
        assert answer == ("ENOMEM" if where == "allocate" else 3)
    assert mount.read(fh, 0, 4) == b"kept"
