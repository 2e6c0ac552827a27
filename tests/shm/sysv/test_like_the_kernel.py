"""A table of cases, each of which comes out with the kernel's segments as with ours.

A case is a generator over what it saw. It runs in a process of its own, twice. Ids are random here
and counted there, so no case shows one.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anonfs.shm.sysv import (
    IPC_CREAT,
    IPC_EXCL,
    IPC_PRIVATE,
    IPC_RMID,
    IPC_STAT,
    SHM_DEST,
    SHM_LOCK,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_STAT,
    SHM_UNLOCK,
)
from anonfs.units import PAGE_SIZE
from tests.posix.children import NOBODY, STRANGER, Child, eventually, in_child
from tests.shm.sysv.calls import Calls, Kernel, Ours, acting_as, outcome

KEY, OTHER = 0x5EA1, -7
FREE = 0x1000_0000_0000  # where nothing is mapped, in any process

Case = Callable[[Calls], Iterator[Any]]
CASES: list[Case] = []
NEEDS_ROOT: set[Case] = set()


def case(written: Case) -> Case:
    CASES.append(written)
    return written


def case_of_root(written: Case) -> Case:
    NEEDS_ROOT.add(written)
    return case(written)


def _gone(calls: Calls, shmid: int) -> str:
    eventually(lambda: outcome(calls.stat, shmid) == "EINVAL", "the segment is gone")
    return "gone"


def _mode(calls: Calls, shmid: int) -> Any:
    found = outcome(calls.stat, shmid)
    return found if isinstance(found, str) else found["mode"]


@case
def sizes(calls: Calls) -> Iterator[Any]:
    for size in (0, -1, -PAGE_SIZE, (1 << 64) - 1):
        yield outcome(calls.get, IPC_PRIVATE, size, 0o600)
        yield outcome(calls.get, KEY, size, IPC_CREAT | 0o600)
    for size in (1, PAGE_SIZE - 1, PAGE_SIZE, 3 * PAGE_SIZE + 1):
        yield calls.stat(calls.get(IPC_PRIVATE, size, 0o600))["segsz"]


@case
def an_existing_key(calls: Calls) -> Iterator[Any]:
    yield outcome(calls.get, KEY, 100, 0)
    yield outcome(calls.get, KEY, 100, IPC_EXCL | 0o600)
    shmid = calls.get(KEY, 100, IPC_CREAT | IPC_EXCL | 0o600)
    for size in (0, 1, 100):
        yield calls.get(KEY, size, 0) == calls.get(KEY, size, IPC_CREAT | 0o600) == shmid
    for size in (101, PAGE_SIZE, -1):
        yield outcome(calls.get, KEY, size, IPC_CREAT | 0o600)
    for size in (100, 101):
        yield outcome(calls.get, KEY, size, IPC_CREAT | IPC_EXCL | 0o600)
    yield calls.get(KEY, 100, IPC_EXCL | 0o600) == shmid


@case
def keys(calls: Calls) -> Iterator[Any]:
    for key in (KEY, OTHER, -(1 << 31), (1 << 31) - 1):
        shmid = calls.get(key, 1, IPC_CREAT | 0o600)
        yield calls.stat(shmid)["key"]
        yield calls.get(key, 0, 0) == shmid
    first = calls.get(IPC_PRIVATE, 1, IPC_CREAT | IPC_EXCL | 0o600)
    yield calls.get(IPC_PRIVATE, 1, 0o600) == first, calls.stat(first)["key"]


@case
def what_is_told(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(KEY, 5000, IPC_CREAT | 0o640)
    yield calls.stat(shmid)
    one = calls.at(shmid)
    yield calls.stat(shmid)
    two = calls.at(shmid, None, SHM_RDONLY)
    yield calls.stat(shmid)["nattch"]
    calls.dt(one)
    yield calls.stat(shmid)
    calls.dt(two)
    yield calls.stat(shmid)


@case
def the_mask_does_not_matter(calls: Calls) -> Iterator[Any]:
    before = os.umask(0o777)
    for mode in (0o666, 0o400, 0o7777, 0):
        yield _mode(calls, calls.get(IPC_PRIVATE, 1, IPC_CREAT | (mode & 0o777)))
    os.umask(before)


@case
def contents(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, 2 * PAGE_SIZE, 0o600)
    one, two = calls.at(shmid), calls.at(shmid)
    yield ctypes.string_at(one, 2 * PAGE_SIZE).count(0), one == two
    ctypes.memmove(one + PAGE_SIZE - 2, b"across", 6)
    yield ctypes.string_at(two + PAGE_SIZE - 2, 6)
    calls.dt(one)
    calls.dt(two)
    again = calls.at(shmid, None, SHM_RDONLY)
    yield ctypes.string_at(again + PAGE_SIZE - 2, 6)


@case
def what_is_read_only(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, PAGE_SIZE, 0o600)
    for address in (None, FREE):
        memory = calls.at(shmid, address, SHM_RDONLY)
        yield ctypes.string_at(memory, 1)
        with Child(ctypes.memset, memory, 1, 1) as child:
            yield child.wait() == -signal.SIGSEGV


@case
def ids_that_there_are_not(calls: Calls) -> Iterator[Any]:
    for shmid in (-1, -(1 << 31), 0, 1, 12345678):
        yield outcome(calls.at, shmid)
        yield outcome(calls.stat, shmid), outcome(calls.set, shmid, 0, 0, 0o600)
        yield [outcome(calls.ctl, shmid, cmd) for cmd in (IPC_RMID, SHM_LOCK, SHM_UNLOCK)]


@case
def commands_that_there_are_not(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, 1, 0o600)
    yield [outcome(calls.ctl, shmid, cmd) for cmd in (-1, 99, 1000)]
    yield [outcome(calls.stat, index, SHM_STAT) for index in (-1, 5, 1000)]


@case
def at_an_address(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, 2 * PAGE_SIZE, 0o600)
    yield calls.at(shmid, FREE) - FREE
    yield outcome(calls.at, shmid, FREE), outcome(calls.at, shmid, FREE + PAGE_SIZE)
    yield outcome(calls.at, shmid, FREE - PAGE_SIZE)
    yield outcome(calls.at, shmid, FREE + 1), outcome(calls.at, shmid, FREE + 4 * PAGE_SIZE + 8)
    yield calls.at(shmid, FREE + 4 * PAGE_SIZE + 8, SHM_RND) - FREE
    yield calls.stat(shmid)["nattch"]
    yield outcome(calls.dt, FREE + PAGE_SIZE), outcome(calls.dt, FREE + 2 * PAGE_SIZE)
    calls.dt(FREE)
    yield calls.stat(shmid)["nattch"]


@case
def in_the_place_of_something(calls: Calls) -> Iterator[Any]:
    old, new = (calls.get(IPC_PRIVATE, 2 * PAGE_SIZE, 0o600) for _ in range(2))
    for address in (FREE, calls.at(old)):
        if address == FREE:
            calls.at(old, address)
        yield outcome(calls.at, new, address)
        yield calls.at(new, address, SHM_REMAP) == address
        ctypes.memset(address, 7, 1)
        yield calls.stat(old)["nattch"], calls.stat(new)["nattch"]
        calls.dt(address)
        yield outcome(calls.dt, address)
    yield outcome(calls.at, new, None, SHM_REMAP), outcome(calls.at, new, 8, SHM_REMAP | SHM_RND)


@case
def what_is_not_attached(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, 1, 0o600)
    yield outcome(calls.dt, FREE), outcome(calls.dt, 1), outcome(calls.dt, 0)
    memory = calls.at(shmid)
    yield outcome(calls.dt, memory + 1), outcome(calls.dt, memory), outcome(calls.dt, memory)


@case
def removed_with_nobody_attached(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(KEY, 1, IPC_CREAT | 0o600)
    calls.dt(calls.at(shmid))
    calls.ctl(shmid, IPC_RMID)
    yield outcome(calls.stat, shmid), outcome(calls.at, shmid), outcome(calls.ctl, shmid, IPC_RMID)
    yield outcome(calls.get, KEY, 0, 0)


@case
def removed_while_attached(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(KEY, 100, IPC_CREAT | 0o640)
    memory = calls.at(shmid)
    calls.ctl(shmid, IPC_RMID)
    yield calls.stat(shmid)
    yield outcome(calls.get, KEY, 0, 0)
    another = calls.get(KEY, 200, IPC_CREAT | IPC_EXCL | 0o600)
    yield another == shmid, calls.get(KEY, 0, 0) == another
    yield outcome(calls.ctl, shmid, IPC_RMID)
    calls.set(shmid, os.getuid(), os.getgid(), 0o600)
    yield calls.stat(shmid)["mode"] == SHM_DEST | 0o600
    ctypes.memset(memory, 1, 100)
    calls.dt(memory)
    yield _gone(calls, shmid), calls.stat(another)["nattch"]


@case
def modes(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, 1, 0o600)
    for mode in (0o644, 0, 0o7123):
        calls.set(shmid, os.getuid(), os.getgid(), mode)
        yield _mode(calls, shmid)
    yield outcome(calls.set, shmid, -1, 0, 0o600), outcome(calls.set, shmid, 0, -1, 0o600)


@case
def locked(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, 3 * PAGE_SIZE, 0o600)
    for cmd in (SHM_LOCK, SHM_LOCK, SHM_UNLOCK, SHM_UNLOCK):
        calls.ctl(shmid, cmd)
        yield calls.stat(shmid)["mode"]


@case_of_root
def all_segments(calls: Calls) -> Iterator[Any]:
    yield calls.totals()
    for size in (1, PAGE_SIZE, 5 * PAGE_SIZE + 1):
        calls.get(IPC_PRIVATE, size, 0o600)
    yield calls.totals()
    yield sorted(calls.stat(index, SHM_STAT)["segsz"] for index in range(3))


@case
def forks(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(IPC_PRIVATE, PAGE_SIZE, 0o600)
    memory = calls.at(shmid)

    def child() -> tuple[int, bool]:
        ctypes.memset(memory, ord("c"), 1)
        parent = calls.stat(shmid)["lpid"] == os.getppid()
        nattch = calls.stat(shmid)["nattch"]
        calls.dt(memory)
        return nattch, parent

    yield in_child(child)
    yield calls.stat(shmid)["nattch"], ctypes.string_at(memory, 1)


@case_of_root
def who_may_get(calls: Calls) -> Iterator[Any]:
    for mode in (0o600, 0o644, 0o666, 0o060, 0o006, 0):
        with acting_as(NOBODY):
            shmid = calls.get(KEY, 1, IPC_CREAT | mode)
        for user in (NOBODY, STRANGER):
            with acting_as(user):
                for wanted in (0, 0o400, 0o200, 0o600, 0o004, 0o040, 0o666):
                    found = outcome(calls.get, KEY, 1, wanted)
                    yield mode, wanted, found == shmid or found
                yield outcome(calls.get, KEY, 2, 0o600)
                yield outcome(calls.get, KEY, 1, IPC_CREAT | IPC_EXCL | 0o600)
        calls.ctl(shmid, IPC_RMID)


@case_of_root
def who_may_attach(calls: Calls) -> Iterator[Any]:
    for mode in (0o600, 0o644, 0o666, 0o400, 0o222, 0):
        with acting_as(NOBODY):
            shmid = calls.get(IPC_PRIVATE, 1, mode)
        for user in (NOBODY, STRANGER):
            with acting_as(user):
                for flags in (0, SHM_RDONLY):
                    found = outcome(calls.at, shmid, FREE, flags)
                    yield mode, flags, found
                    if found == FREE:
                        calls.dt(FREE)
        yield outcome(calls.at, shmid, FREE)
        calls.dt(FREE)


@case_of_root
def who_may_control(calls: Calls) -> Iterator[Any]:
    for mode in (0o600, 0o644, 0o666, 0):
        with acting_as(NOBODY):
            shmid = calls.get(KEY, 1, IPC_CREAT | mode)
        with acting_as(STRANGER):
            yield type(outcome(calls.stat, shmid)), outcome(calls.ctl, shmid, IPC_RMID)
            yield outcome(calls.set, shmid, STRANGER.uid, STRANGER.gid, 0o666)
            yield outcome(calls.ctl, shmid, SHM_LOCK), outcome(calls.ctl, shmid, SHM_UNLOCK)
        with acting_as(NOBODY):
            yield outcome(calls.stat, shmid)
            yield outcome(calls.ctl, shmid, IPC_STAT) if mode == 0 else None
            yield outcome(calls.set, shmid, NOBODY.uid, NOBODY.gid, 0o400)
            yield outcome(calls.stat, shmid)
            yield outcome(calls.ctl, shmid, IPC_RMID), outcome(calls.get, KEY, 0, 0)


@case_of_root
def given_away(calls: Calls) -> Iterator[Any]:
    shmid = calls.get(KEY, 1, IPC_CREAT | 0o600)
    calls.set(shmid, STRANGER.uid, STRANGER.gid, 0o600)
    yield calls.stat(shmid)
    with acting_as(NOBODY):
        yield outcome(calls.at, shmid), outcome(calls.ctl, shmid, IPC_RMID)
    with acting_as(STRANGER):
        yield calls.get(KEY, 1, 0o600) == shmid
        calls.dt(calls.at(shmid))
        yield outcome(calls.ctl, shmid, IPC_RMID), outcome(calls.get, KEY, 0, 0)


@case_of_root
def root_may(calls: Calls) -> Iterator[Any]:
    with acting_as(NOBODY):
        shmid = calls.get(KEY, 1, IPC_CREAT)
    yield calls.get(KEY, 1, 0o666) == shmid
    yield calls.stat(shmid)
    calls.dt(calls.at(shmid))
    yield outcome(calls.ctl, shmid, IPC_RMID), outcome(calls.get, KEY, 0, 0)


def _seen(make: Callable[[], Kernel | Ours], written: Case) -> list[Any]:
    calls = make()
    try:
        seen = list(written(calls))
    finally:
        calls.clean()
    return [_without_pids(one, os.getpid()) for one in seen]


def _without_pids(one: Any, pid: int) -> Any:
    if not isinstance(one, dict):
        return one
    return one | {name: one[name] == pid for name in ("cpid", "lpid")}


@pytest.mark.parametrize("written", CASES, ids=lambda written: written.__name__)
def test_both_see_the_same(mount: Path, written: Case) -> None:
    if written in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip("only root can act as others, and have an IPC namespace")
    kernels = in_child(_seen, Kernel, written)
    ours = in_child(_seen, lambda: Ours(mount), written)
    assert ours == kernels
    assert ours
