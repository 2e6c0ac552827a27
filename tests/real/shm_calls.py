"""Calls of shm_open(3), sem_open(3) and their kin, good and bad, by several users.

``python -m tests.real.shm_calls``, as root, prints a line of JSON: what came of each call, errnos
by their names. It is the same wherever /dev/shm does what the man pages say, but for ``huge``.
"""

import ctypes
import errno
import json
import mmap
import os
import sys
from collections.abc import Callable

from tests.posix.children import STRANGER, User, as_user
from tests.posix.reference import outcome
from tests.support.programs import ROOT

__all__: list[str] = []

_OTHER = User(60002, 60002)
_PAGE = mmap.PAGESIZE
_CREATE, _NEW = os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL
_libc = ctypes.CDLL(None, use_errno=True)
_libc.sem_open.restype = ctypes.c_void_p


def _checked(result: int, failed: int | None = -1) -> int:
    if result == failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _shm_open(name: str, flags: int, mode: int = 0o600) -> int:
    return _checked(_libc.shm_open(os.fsencode(name), flags, mode))


def _shm_unlink(name: str) -> None:
    _checked(_libc.shm_unlink(os.fsencode(name)))


def _sem_open(name: str, flags: int, mode: int = 0o600, value: int = 0) -> ctypes.c_void_p:
    return ctypes.c_void_p(
        _checked(_libc.sem_open(os.fsencode(name), flags, mode, ctypes.c_uint(value)), None)
    )


def _sem_unlink(name: str) -> None:
    _checked(_libc.sem_unlink(os.fsencode(name)))


def _tried(call: Callable[..., int], *arguments: object) -> str | None:
    """The errno of a call that opens a segment, closed again."""
    result = outcome(call, *arguments)
    if isinstance(result, int):
        os.close(result)
        return None
    return str(result)


def _names() -> object:
    bad = ["", "/", "a/b", "/a/b", "/a/", "//", "/.", "/..", "/" + "n" * 256, "/" + "n" * 255]
    record = [(name[:5], len(name), _tried(_shm_open, name, _CREATE)) for name in bad]
    _shm_unlink("/" + "n" * 255)
    unlinked = [(name[:5], outcome(_shm_unlink, name)) for name in (*bad, "/missing")]
    semaphores = [
        outcome(_sem_open, name, os.O_CREAT) for name in ("", "/", "/a/b", "/" + "n" * 252)
    ]
    return [record, unlinked, semaphores, outcome(_sem_unlink, "/missing")]


def _flags() -> object:
    record = [_tried(_shm_open, "/s", os.O_RDWR), _tried(_shm_open, "/s", _NEW)]
    record += [_tried(_shm_open, "/s", _NEW), _tried(_shm_open, "/s", _CREATE)]
    writing, reading = _shm_open("/s", os.O_RDWR), _shm_open("/s", os.O_RDONLY)
    os.ftruncate(writing, _PAGE)
    os.close(writing)
    record += [str(outcome(os.ftruncate, reading, 10)), str(outcome(os.write, reading, b"x"))]
    record += [str(outcome(mmap.mmap, reading, _PAGE)), str(os.get_inheritable(reading))]
    os.close(reading)
    _shm_unlink("/s")
    return record


def _sizes() -> object:
    with os.fdopen(_shm_open("/s", _NEW), "r+b") as file:
        fd = file.fileno()
        record = [outcome(os.ftruncate, fd, size) for size in (0, -1, -(1 << 63))]
        record += [outcome(os.posix_fallocate, fd, 0, size) for size in (0, -1)]
        record += [os.fstat(fd).st_size]
        os.ftruncate(fd, 3 * _PAGE)
        with mmap.mmap(fd, 3 * _PAGE) as memory:
            memory[-4:] = b"last"
            os.ftruncate(fd, 5 * _PAGE)
            with mmap.mmap(fd, 5 * _PAGE) as larger:
                record += [larger[3 * _PAGE - 4 : 3 * _PAGE].decode(), larger[-4:].hex()]
    _shm_unlink("/s")
    return record


def _huge() -> object:
    """More than there is, which tmpfs refuses at the fault alone; more than a file can have."""
    fd = _shm_open("/huge", _NEW)
    refused = [outcome(os.ftruncate, fd, size) for size in (1 << 40, 1 << 62, (1 << 63) - 1)]
    refused += [outcome(os.posix_fallocate, fd, 0, 1 << 40), os.fstat(fd).st_size]
    os.close(fd)
    _shm_unlink("/huge")
    return refused


def _users() -> object:
    """A directory for all, in which names are their owners'."""
    os.umask(0)
    for name, mode in (("/private", 0o600), ("/public", 0o666), ("/readable", 0o644)):
        as_user(STRANGER, ROOT, lambda _: os.close(_shm_open(name, _NEW, mode)))  # noqa: B023
    _sem_open("/gate", os.O_CREAT, 0o666, 0)
    _sem_open("/locked", os.O_CREAT, 0o600, 0)

    def other(_: object) -> object:
        record: list[object] = [_tried(_shm_open, "/private", flags) for flags in (0, os.O_RDWR)]
        record += [_tried(_shm_open, "/public", os.O_RDWR), _tried(_shm_open, "/readable", 0)]
        record += [_tried(_shm_open, "/readable", os.O_RDWR), _tried(_shm_open, "/private", _NEW)]
        record += [outcome(_shm_unlink, name) for name in ("/private", "/public")]
        record += [outcome(_sem_open, "/locked", 0), outcome(_sem_unlink, "/gate")]
        record += [_tried(_shm_open, "/own", _NEW), outcome(_shm_unlink, "/own")]
        _checked(_libc.sem_post(_sem_open("/gate", 0)))
        return record

    record = [as_user(_OTHER, ROOT, other)]
    _checked(_libc.sem_wait(_sem_open("/gate", 0)))
    for name in ("/private", "/public", "/readable"):
        as_user(STRANGER, ROOT, lambda _: _shm_unlink(name))  # noqa: B023
    for name in ("/gate", "/locked"):
        _sem_unlink(name)
    return [record, sorted(os.listdir("/dev/shm"))]  # noqa: PTH208  a list to compare


def _semaphores() -> object:
    one = _sem_open("/one", os.O_CREAT | os.O_EXCL, 0o600, 2)
    record = [outcome(_sem_open, "/one", os.O_CREAT | os.O_EXCL), outcome(_sem_open, "/none", 0)]
    again = _sem_open("/one", os.O_CREAT, 0o600, 9)
    record += [one.value == again.value, _libc.sem_trywait(one), _libc.sem_trywait(one)]
    record += [_libc.sem_trywait(again), errno.errorcode[ctypes.get_errno()]]
    record += [sorted(os.listdir("/dev/shm")), outcome(_sem_unlink, "/one")]  # noqa: PTH208
    return [*record, outcome(_sem_open, "/big", os.O_CREAT, 0o600, 1 << 31)]


def _main() -> None:
    parts = (_names, _flags, _sizes, _huge, _users, _semaphores)
    sys.stdout.write(json.dumps({part.__name__: part() for part in parts}) + "\n")


if __name__ == "__main__":
    _main()
